"""Two runs at once in one folder: the first goes on as if there were no second."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from adversary.storage.run_folder import RunFolder
from fl_sim.cli.app import main
from fl_sim.engines import flower
from fl_sim.engines.flower import RunStatus
from fl_sim.rounds.resume import run_lock

SETTINGS = (
    "rounds=1000", "clients=2", "device=cpu", "data.num-images=14", "data.image-size=8",
    "adversary.enabled=false",
)  # fmt: skip
PROGRAM = """
import signal, sys
from fl_sim.cli.app import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def first(root, tmp_path):
    """A run, by the command line, that has begun; ended if the test does not."""
    words = [
        "run",
        "--engine=local",
        f"--out={tmp_path / 'run'}",
        *(f"--set={s}" for s in SETTINGS),
    ]
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words], cwd=tmp_path, stdout=subprocess.PIPE, text=True,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert any("round 1/1000" in line for line in process.stdout)
        yield process
        process.kill()


def test_the_second_is_refused_and_the_first_goes_on(first, tmp_path, capsys):
    folder = RunFolder.open(tmp_path / "run")
    run = ["run", "--engine=local", f"--out={folder.path}"]
    anew = [*run, *(f"--set={s}" for s in SETTINGS)]
    attack = ["attack", str(folder.path)]
    for command in (anew, [*anew, "--overwrite"], [*run, "--resume"], attack):
        assert main(command) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line == f"fl-sim: error: {folder.path}: another process still writes this run"
    assert first.poll() is None
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)
    assert first.returncode == 130
    assert folder.info()["status"] == "stopped"
    rounds = list(folder.rounds()["round"])
    assert rounds == list(range(1, len(rounds) + 1))
    assert len(rounds) >= 1


def test_a_second_that_comes_while_flower_starts_does_not_end_the_first(tmp_path, monkeypatch):
    with ExitStack() as stack:

        def taken(root, run_config, **how):
            folder = RunFolder.create(Path(run_config["out"]))
            stack.enter_context(run_lock(folder))
            return RunStatus("finished:failed", "already holds a run")

        monkeypatch.setattr(flower, "run_app", taken)
        assert main(["run", "--out", str(tmp_path / "run")]) == 1
        assert RunFolder.open(tmp_path / "run").info()["status"] == "running"
