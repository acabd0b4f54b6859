"""A run that is killed and goes on ends as one that was not."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from adversary.common.torch_state import preserved_rng_state
from adversary.storage.run_folder import RunFolder
from fl_sim.cli import app
from fl_sim.engines.in_process import run_in_process
from fl_sim.rounds.resume import ResumeError, open_for_resume, run_lock, settings_of
from fl_sim.rounds.server_state import (
    ServerState,
    ServerStateError,
    random_states,
    set_random_states,
)
from fl_sim.settings.parse import flatten, parse
from fl_sim.settings.rules import SettingsError
from fl_sim.training import local_training

QUIET = {"rounds": 3, "checkpoints": True, "adversary__enabled": False, "local__max_steps": 2}


WHOLE: dict[str, object] = {}
"""The end of a run that several tests compare with."""


class Killed(BaseException):
    """Ends the run where it stands: nothing is caught, closed or noted."""


def run_killed(settings, monkeypatch, owner, name, call, *, after=False):
    """Run until the given call of a function, and kill it before or after that did its work."""
    real = getattr(owner, name)
    calls = []

    def dying(*args, **more):
        calls.append(1)
        if len(calls) == call and not after:
            raise Killed
        result = real(*args, **more)
        if len(calls) == call:
            raise Killed
        return result

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, dying)
        with pytest.raises(Killed):
            run_in_process(settings)


def ended(path: Path) -> dict[str, object]:
    """Return all that a run's end is compared by."""
    folder = RunFolder.open(path)
    tables = [folder.rounds(), folder.leakage()]
    return {
        "tables": [t.drop(columns="seconds").to_csv(index=False) for t in tables],
        "more": [folder.clients().to_csv(), folder.accounts().to_csv()],
        "models": {p.name: p.read_bytes() for p in (path / "checkpoints").iterdir()},
        "status": folder.info()["status"],
        "failures": folder.info()["failures"],
        "best": folder.info().get("best"),
    }


def unbroken(quick, tmp_path, **changes):
    settings = quick(out=str(tmp_path / "whole"), **changes)
    run_in_process(settings)
    return ended(tmp_path / "whole")


def resumed(settings) -> dict[str, object]:
    run_in_process(parse({**flatten(settings), "resume": True}))
    return ended(Path(settings.out))


CASES = {
    "server momentum": {"strategy__name": "fedavgm"},
    "server Adam": {"strategy__name": "fedadam", "model__name": "lenet", "data__image_size": 32},
    "server noise": {"defence__name": "central-dp"},
    "masks": {"defence__name": "secure-aggregation"},
    "sampled clients and plateaus": {
        "strategy__fraction": 0.5,
        "clients": 4,
        "strategy__plateau_patience": 1,
        "data__validation_fraction": 0.3,
        "strategy__monitor": "loss",
        "strategy__min_delta": 1.0,
    },
}


@pytest.mark.parametrize("case", CASES)
def test_it_ends_as_if_it_had_not_been_killed(quick, tmp_path, monkeypatch, case):
    changes = {**QUIET, **CASES[case]}
    whole = unbroken(quick, tmp_path, **changes)
    settings = quick(out=str(tmp_path / "broken"), **changes)
    run_killed(
        settings, monkeypatch, RunFolder, "add_round", 3, after=True
    )  # the round's row, no snapshot
    folder = RunFolder.open(tmp_path / "broken")
    assert (folder.info()["status"], len(folder.rounds())) == ("running", 3)
    assert ServerState.load(folder.state).round == 2
    assert resumed(settings) == whole
    assert [one["after_round"] for one in folder.info()["resumed"]] == [2]
    assert not folder.state.exists()


ATTACKED = {
    **{"rounds": 2, "clients": 2, "checkpoints": True, "data__num_images": 14},
    **{"adversary__options": "dlg.iterations=1", "adversary__clients": 1, "local__batch_size": 1},
}


@pytest.mark.parametrize(
    ("owner", "name", "call", "after"),
    [
        (local_training, "train", 1, False),  # before any snapshot
        (local_training, "train", 4, False),  # in the second round
        (RunFolder, "add_reconstruction", 2, True),  # after its attack
        (ServerState, "save", 2, True),  # after the last one
    ],
)
def test_wherever_it_is_killed(quick, tmp_path, monkeypatch, owner, name, call, after):
    if not WHOLE:
        WHOLE.update(unbroken(quick, tmp_path, **ATTACKED))
    settings = quick(out=str(tmp_path / "broken"), **ATTACKED)
    run_killed(settings, monkeypatch, owner, name, call, after=after)
    assert resumed(settings) == WHOLE


def test_an_early_stop_stays_one(quick, tmp_path, monkeypatch):
    changes = {
        **QUIET, "rounds": 6, "strategy__stop_patience": 2, "strategy__monitor": "loss",
        "strategy__min_delta": 9.0, "data__validation_fraction": 0.3,
    }  # fmt: skip
    whole = unbroken(quick, tmp_path, **changes)
    assert whole["best"]["round"] == 1
    assert whole["best"]["stopped_after"] == 3
    settings = quick(out=str(tmp_path / "broken"), **changes)
    run_killed(
        settings, monkeypatch, ServerState, "save", 3, after=True
    )  # decided, and nothing more
    assert resumed(settings) == whole


SCRIPT = """
import os, signal, sys
from adversary.scoring import scorer
from adversary.storage.run_folder import RunFolder
from fl_sim import cli
scorer.load_lpips = lambda: (None, "not in this test")
add = RunFolder.add_round
def dying(self, **row):
    add(self, **row)
    if row["round"] == 2:
        os.kill(os.getpid(), signal.SIGKILL)
RunFolder.add_round = dying
sys.exit(cli.main(sys.argv[1:]))
"""


def test_after_kill_9_by_the_command_line(quick, tmp_path, capsys):
    changes = {**ATTACKED, "rounds": 3}
    whole = unbroken(quick, tmp_path, **changes)
    settings = quick(out=str(tmp_path / "broken"), **changes)
    sets = [f"--set={k}={v}" for k, v in flatten(settings).items() if k != "out"]
    command = ["run", "--engine=local", f"--out={settings.out}", *sets]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *command], cwd=root, capture_output=True, check=False,
        env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    assert app.main(["run", "--engine=local", f"--out={settings.out}", "--resume"]) == 0
    assert ended(Path(settings.out)) == whole
    assert app.main(["run", "--engine=local", f"--out={settings.out}", "--resume"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("is complete")


def broken_off(quick, monkeypatch, **changes):
    """Return the settings of a run that was killed in its second round."""
    settings = quick(**{**QUIET, **changes})
    run_killed(settings, monkeypatch, RunFolder, "add_round", 2)
    return settings


def test_what_is_in_the_way_is_one_line_each(quick, tmp_path, monkeypatch, capsys):
    settings = broken_off(quick, monkeypatch)
    out = settings.out
    before = (Path(out) / "rounds.csv").read_bytes()
    changed = parse({**flatten(settings), "resume": True, "local.lr": 0.5, "rounds": 9, "seed": 77})
    with pytest.raises(SettingsError) as error:
        run_in_process(changed)
    assert [line.partition(";")[0] for line in str(error.value).splitlines()] == [
        f"seed = 77: the run in {out} has 1",
        f"rounds = 9: the run in {out} has 3",
        f"local.lr = 0.5: the run in {out} has 0.01",
    ]
    folder = RunFolder.open(Path(out))
    refused = pytest.raises(ResumeError, match="another process still writes")
    with run_lock(folder), refused, run_lock(folder):
        pass
    for arguments, message in [
        (["--out", out, "--resume", "--overwrite"], "--resume goes on with a run, --overwrite"),
        (["--resume"], "--resume: --out must name the folder of the run"),
        (["--out", str(tmp_path / "none"), "--resume"], "is not the folder of a run"),
    ]:
        assert app.main(["run", "--engine=local", *arguments]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert message in line
    folder.state.write_bytes(b"half of it")
    with pytest.raises(ServerStateError, match="state.safetensors: no run can go on from it"):
        resumed(settings)
    assert (Path(out) / "rounds.csv").read_bytes() == before


def test_clients_that_keep_a_part_of_the_model_cannot_go_on(quick, monkeypatch, capsys):
    settings = broken_off(quick, monkeypatch, defence__name="partial-sharing")
    assert app.main(["run", "--engine=local", "--out", settings.out, "--resume"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "defence.name = 'partial-sharing': clients keep a part of the model" in line


def test_a_moved_run_goes_on_where_it_is(quick, tmp_path, monkeypatch):
    settings = broken_off(quick, monkeypatch)
    moved = Path(settings.out).rename(tmp_path / "moved")
    assert open_for_resume(parse(settings_of(moved))).path == moved


def test_a_snapshot_that_cannot_be_written_does_not_end_the_training(
    quick, tmp_path, monkeypatch, caplog
):
    whole = unbroken(quick, tmp_path, **QUIET)

    def full(self, path):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(ServerState, "save", full)
    settings = quick(out=str(tmp_path / "full"), **QUIET)
    run_in_process(settings)
    assert ended(tmp_path / "full") == whole
    [line] = {m for m in caplog.messages if "round 2: nothing was kept" in m}
    assert line.endswith("state.safetensors cannot be written: No space left on device")


def test_random_numbers_go_on_where_they_were():
    def draws():
        numpy = np.random.normal(size=3).tolist()  # noqa: NPY002
        return [random.gauss(), random.random(), numpy, torch.rand(2).tolist()]

    with preserved_rng_state():
        draws()  # an odd number of normal draws: one is left for the next call
        states = random_states()
        expected = draws()
        draws()
        set_random_states(states)
        assert draws() == expected
