"""Two nodes of a Ray cluster, on one machine: clients and attacks on both."""

from __future__ import annotations

import tempfile
import threading
from collections import defaultdict
from contextlib import contextmanager, suppress

import psutil
import pytest
from ray.cluster_utils import Cluster

from adversary.storage.run_folder import RunFolder
from fl_sim.cli.app import main

SETTINGS = {
    "rounds": "2",
    "clients": "4",
    "data.image-size": "16",
    "local.batch-size": "1",
    "adversary.attack": "dlg",
    "adversary.options": "dlg.iterations=5",
    "adversary.workers": "2",
    "adversary.bounds": "off",
    "adversary.identify": "false",
}
HEAD = {"num_cpus": 1, "include_dashboard": False}


@pytest.fixture
def cluster():
    """Two nodes of one processor each; joined as by ``ray start --address``."""
    with tempfile.TemporaryDirectory(prefix="ray-") as place:  # its sockets need a short path
        nodes = Cluster(initialize_head=True, head_node_args=HEAD | {"temp_dir": place})
        nodes.add_node(num_cpus=1)
        yield nodes
        nodes.shutdown()


@contextmanager
def watched(cluster):
    """Note which of Ray's tasks each node works on."""
    seen, over = defaultdict(set), threading.Event()
    raylets = [node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes()]

    def watch():
        while not over.wait(0.05):
            for number, raylet in enumerate(raylets):
                with suppress(psutil.NoSuchProcess):
                    for worker in psutil.Process(raylet).children(recursive=True):
                        with suppress(psutil.NoSuchProcess):
                            title = "".join(worker.cmdline())
                            seen[number].update([title] if title.startswith("ray::") else [])

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def run(out, engine):
    changes = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    assert main(["run", "--engine", engine, "--out", str(out), *changes]) == 0
    leakage = RunFolder.open(out).leakage()
    return leakage.drop(columns="seconds").to_csv(index=False)


def test_the_same_tables_with_clients_and_attacks_on_both(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    with watched(cluster) as seen:
        on_two = run(tmp_path / "two", "flower")
    for node in (0, 1):
        assert any("ClientAppActor" in title for title in seen[node]), seen
        assert any("_Worker" in title for title in seen[node]), seen
    assert run(tmp_path / "one", "local") == on_two  # in one process, without Ray
    assert on_two.count("\n") == 1 + 2 * 4
