"""The example apps under one real SuperLink with TLS and two SuperNodes, as processes."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from adversary.report import guard_page
from adversary.storage import csv_table
from adversary.storage.run_folder import RunFolder
from strategies.mods.leakage_guard.mod import WITHHELD

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "hospitals"
GUARDED = ROOT / "examples" / "guarded_hospitals"
BIN = Path(sys.executable).parent


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextlib.contextmanager
def running(*command, log, environment):
    """Start a process; end it, and make sure that nothing of it is left."""
    with log.open("w") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env=environment, cwd=log.parent
        )
        family = psutil.Process(process.pid)
        try:
            yield
        finally:
            children = family.children(recursive=True)
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            assert psutil.wait_procs(children, 20)[1] == []


def until(condition, seconds, log):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, log.read_text()
        time.sleep(0.3)


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
]


def flwr_environment(tmp_path, port):
    """Return the environment of Flower's programs, which know the federation as "hospitals"."""
    home = tmp_path / "flwr"
    home.mkdir()
    (home / "config.toml").write_text(
        f'[superlink.hospitals]\naddress = "127.0.0.1:{port}"\n'
        f'root-certificates = "{tmp_path}/tls/ca.crt"\n'
    )
    return {
        **os.environ, "FLWR_HOME": str(home), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    """Return what runs an app in a federation of two hospitals, as a user does; and its folder."""
    tmp_path = tmp_path_factory.mktemp("deployment")
    subprocess.run(
        ["bash", EXAMPLE / "certificates.sh", tmp_path / "tls"], check=True, capture_output=True
    )
    port = free_port()
    environment = flwr_environment(tmp_path, port)
    link, nodes = tmp_path / "link.log", [tmp_path / f"node-{i}.log" for i in range(2)]

    def run(app, config):
        done = subprocess.run(
            [BIN / "flwr", "run", app, "hospitals", "--stream", "--run-config", config],
            env=environment, capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        return said

    with contextlib.ExitStack() as stack:
        tls = [f"--ssl-{kind}=tls/{file}" for kind, file in (
            ("ca-certfile", "ca.crt"), ("certfile", "server.crt"), ("keyfile", "server.key")
        )]  # fmt: skip
        where = ["--host", "127.0.0.1", "--port", str(port)]
        stack.enter_context(
            running(BIN / "flower-superlink", *tls, *where, log=link, environment=environment)
        )
        until(lambda: "Uvicorn running on https" in link.read_text(), 60, link)
        for index, log in enumerate(nodes):
            stack.enter_context(
                running(
                    *(BIN / "flower-supernode", "--root-certificates", "tls/ca.crt"),
                    *("--superlink", f"127.0.0.1:{port}", "--port", str(free_port())),
                    *("--node-config", f"partition-id={index} num-partitions=2"),
                    log=log,
                    environment=environment,
                )
            )
        for log in nodes:
            until(lambda log=log: "SuperNode ID" in log.read_text(), 60, log)
        yield run, tmp_path


def test_two_hospitals_behind_tls(deployed):
    run, tmp_path = deployed
    out = tmp_path / "run"
    said = run(EXAMPLE, f"out='{out}' rounds=1 iterations=20")
    folder = RunFolder.open(out)
    leakage = folder.leakage()
    assert folder.info()["status"] == "completed", said
    assert sorted(leakage["client"]) == ["client-00", "client-01"]
    assert leakage[["truth", "psnr", "label_true"]].isna().all(axis=None)
    assert leakage["score"].notna().all()
    assert "no true images" in (out / "report.html").read_text(encoding="utf-8")


def test_the_single_image_does_not_leave_and_the_federation_goes_on(deployed):
    """One hospital has a single X-ray, one 32."""
    run, tmp_path = deployed
    run(GUARDED, f"out='{tmp_path}/guarded.json' folder='{tmp_path}' rounds=1 seconds=300.0")
    [found] = json.loads((tmp_path / "guarded.json").read_text())
    assert found == {"came": 1, "told": [WITHHELD], "noise": []}  # that of the single X-ray stayed
    small, large = (
        csv_table.read(tmp_path / f"node-{node}" / "guard.csv", guard_page.TABLE).to_dict("records")
        for node in range(2)
    )
    assert (small[0]["decision"], large[0]["decision"]) == ("refuse", "send")
    assert small[0]["psnr"] > 40
    assert small[0]["images"] == 1
    assert "withheld" in (tmp_path / "node-0" / "guard.html").read_text()
    assert (tmp_path / "node-1" / "guard.html").exists()
