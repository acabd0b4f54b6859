"""Ctrl-C at every stage of a run: what is written stays, and the run goes on to the same end."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from adversary.attacks.adversary import Adversary
from adversary.report import pace, run_page
from adversary.storage.run_folder import RunFolder
from fl_sim import server_app
from fl_sim.engines.in_process import run_in_process
from fl_sim.rounds.server_state import ServerState
from fl_sim.settings.parse import flatten, parse
from fl_sim.training import local_training

CHANGES = {
    "rounds": 2, "clients": 2, "data__num_images": 14,
    "adversary__attack": "dlg", "adversary__options": "dlg.iterations=1",
    "local__batch_size": 1, "data__image_size": 8, "adversary__clients": 1,
}  # fmt: skip
WHOLE: dict[str, object] = {}
"""The end of a run that nobody interrupts."""

STAGES = {
    "clients are awaited": (server_app, "discover_clients", 1, False),
    "a client trains": (local_training, "train", 3, False),
    "an attack runs": (Adversary, "run_attacks", 2, False),
    "a picture is written": (RunFolder, "add_reconstruction", 2, True),
    "the report is drawn": (run_page, "render", 1, False),
    "between rounds": (ServerState, "save", 1, True),
    "the run is closed": (RunFolder, "sort", 1, True),
}


def ended(path: Path) -> dict[str, object]:
    """Return all that a run's end is compared by."""
    folder = RunFolder.open(path)
    return {
        "leakage": folder.leakage().drop(columns="seconds").to_csv(index=False),
        "rounds": folder.rounds().drop(columns="seconds").to_csv(index=False),
        "status": folder.info()["status"],
        "failures": folder.info()["failures"],
    }


@pytest.fixture(autouse=True)
def _no_drawing(monkeypatch):
    """Leave the report undrawn, which takes longer than all the rest, but after every round."""
    monkeypatch.setattr(run_page, "render", lambda folder: folder.path / "report.html")
    monkeypatch.setattr(pace, "FIRST_SECONDS", 0.0)


@pytest.fixture
def interrupted(monkeypatch):
    """Return a function that runs until a stage, and there sends the signal of Ctrl-C."""

    def run(settings, owner, name, call, after):
        real, calls = getattr(owner, name), []

        def pressing(*args, **more):
            calls.append(1)
            result = real(*args, **more) if after else None
            if len(calls) == call:
                os.kill(os.getpid(), signal.SIGINT)
            return result if after else real(*args, **more)

        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with monkeypatch.context() as patched:
                patched.setattr(owner, name, pressing)
                with pytest.raises(KeyboardInterrupt):
                    run_in_process(settings)
        finally:
            signal.signal(signal.SIGINT, before)

    return run


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_that_is_interrupted_goes_on_to_the_same_end(quick, tmp_path, interrupted, stage):
    if not WHOLE:
        run_in_process(quick(out=str(tmp_path / "whole"), **CHANGES))
        WHOLE.update(ended(tmp_path / "whole"))
    settings = quick(**CHANGES)
    interrupted(settings, *STAGES[stage])
    folder = RunFolder.open(Path(settings.out))
    assert folder.info()["status"] == "stopped"
    if "settings" not in folder.info():  # it had not begun
        settings = parse({**flatten(settings), "out": str(tmp_path / "again")})
    else:
        settings = parse({**flatten(settings), "resume": True})
    run_in_process(settings)
    assert ended(Path(settings.out)) == WHOLE
    assert not list(Path(settings.out).rglob(".*"))
