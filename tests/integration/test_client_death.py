"""Hospitals whose processes die in the middle of training, in a real Flower run.

Flower puts a process that died back among those that wait for work, where it fails whatever
client it is given next; how many that are depends on the cores. So only what holds anyhow is
asked for here.
"""

from __future__ import annotations

import contextlib
import json
import os
import tomllib

import psutil
import pytest
import tomli_w

from adversary.storage.run_folder import RunFolder
from fl_sim.cli.app import main
from fl_sim.engines import bundle

CLIENT = """
import os
import signal

from flwr.clientapp import ClientApp

from fl_sim import client_app

app = ClientApp()
app.query()(client_app.tell_partition)
app.evaluate()(client_app.evaluate_model)


@app.train()
def train(message, context):
    server_round = message.content.config_records["config"]["server-round"]
    if server_round == 2 and context.node_config["partition-id"] in DYING:
        os.kill(os.getpid(), signal.SIGKILL)
    return client_app.train_model(message, context)
"""
CHANGES = (
    "rounds=3", "clients=3", "device=cpu", "data.name=phantom", "data.num-images=24",
    "data.image-size=16", "local.batch-size=2",
    "adversary.attack=dlg", "adversary.options=dlg.iterations=2", "adversary.bounds=off",
    "adversary.identify=false", "adversary.workers=1",
)  # fmt: skip
DIED = "the process it was given to died (ActorDiedError)"


@pytest.fixture
def federation(root, tmp_path, monkeypatch):
    """Return a function that runs fl_sim's app with dying clients: exit code and folder."""

    def run(dying: set[int]) -> tuple[int, RunFolder]:
        project = tomllib.loads((root / "pyproject.toml").read_text())
        app = project["tool"]["flwr"]["app"]
        app["components"]["clientapp"] = "hospital.client:app"
        about = {key: project["project"][key] for key in ("name", "version", "license", "dynamic")}
        hospital = tmp_path / "app" / "hospital"
        hospital.mkdir(parents=True)
        (hospital / "__init__.py").touch()
        (hospital / "client.py").write_text(CLIENT.replace("DYING", repr(dying)))
        (hospital.parent / "pyproject.toml").write_text(
            tomli_w.dumps({"project": about, "tool": {"flwr": {"app": app}}})
        )
        monkeypatch.setattr(bundle, "app_root", lambda: contextlib.nullcontext(hospital.parent))
        path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
        monkeypatch.setenv("PYTHONPATH", path)
        changes = (word for change in CHANGES for word in ("--set", change))
        code = main(["run", "--out", str(tmp_path / "run"), *changes])
        return code, RunFolder.open(tmp_path / "run")

    return run


def rows(folder: RunFolder, server_round: int) -> dict[str, set[str]]:
    """What is written of each client in a round."""
    leakage = folder.leakage()
    found = leakage[leakage["round"] == server_round].groupby("client")["status"]
    return {client: set(status) for client, status in found}


def first_round(folder: RunFolder) -> dict[str, set[str]]:
    """What is written of the first round, once what waited when the run failed is attacked."""
    if folder.recorded_updates():
        assert main(["attack", str(folder.path), "--missing", "--jobs", "1"]) == 0
    return rows(folder, 1)


@pytest.mark.slow
def test_one_process_that_dies_is_told_and_the_others_go_on(federation, capfd, earlier):
    code, folder = federation({1})
    info = folder.info()
    assert rows(folder, 2)["client-01"] == {"failed"}
    failures = {(one["round"], one["client"]): one["reason"] for one in info["failures"]}
    assert failures[2, "client-01"] == f"failed: {DIED}"
    # The other clients may be lost with the process, but only to it; and only then does a round
    # end without any.
    assert set(failures.values()) == {f"failed: {DIED}"}
    if code == 0:
        assert info["status"] == "completed"
        assert list(folder.rounds()["round"]) == [1, 2, 3]
        assert folder.rounds()["clients_failed"].iloc[1] >= 1
    else:
        assert (code, info["status"]) == (1, "failed")
    warned = capfd.readouterr().err.splitlines()
    assert any(line.startswith(f"warning: round 2: client-01 failed: {DIED}") for line in warned)
    assert not any("Traceback" in line for line in warned)
    assert set(psutil.Process().children(recursive=True)) <= earlier
    assert first_round(folder) == {f"client-{c:02d}": {"ok"} for c in range(3)}


@pytest.mark.slow
def test_when_every_process_dies_the_run_fails_and_keeps_what_it_had(federation, capfd, earlier):
    code, folder = federation({0, 1, 2})
    reason = (
        "round 2: none of 3 clients returned a usable update: "
        f"client-00, client-01, client-02 failed: {DIED}"
    )
    assert code == 1
    assert capfd.readouterr().err.splitlines()[-1] == f"fl-sim: error: {reason}"
    info = json.loads((folder.path / "run.json").read_text())
    assert (info["status"], info["reason"].removeprefix("NoUsableReplyError: ")) == (
        "failed", reason
    )  # fmt: skip
    assert rows(folder, 2) == {f"client-{c:02d}": {"failed"} for c in range(3)}
    assert list(folder.rounds()["round"]) == [1]
    assert (folder.path / "report.html").is_file()
    assert set(psutil.Process().children(recursive=True)) <= earlier
    assert first_round(folder) == {f"client-{c:02d}": {"ok"} for c in range(3)}
