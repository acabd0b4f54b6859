from __future__ import annotations

from types import SimpleNamespace

import pytest
from flwr.app import ArrayRecord

from fl_sim.rounds.controller import RoundController
from fl_sim.rounds.early_stopping import Pace


@pytest.fixture
def controlled(monkeypatch):
    """Return a controller that keeps no snapshots, and what it puts into run.json."""
    told = []
    monkeypatch.setattr(
        RoundController, "_snapshot", lambda *_: SimpleNamespace(save=lambda path: None)
    )

    def make(**pace):
        folder = SimpleNamespace(state=None, update=lambda **entries: told.append(entries))
        return RoundController(Pace(lr=1.0, rounds=9, **pace), folder), told

    return make


def test_the_rate_after_a_plateau_is_told_as_the_next_round_has_it(controlled, capsys):
    controller, _ = controlled(
        schedule="step", decay=0.5, plateau_patience=1, plateau_factor=0.1, monitor="loss"
    )
    for round, loss in enumerate([0.7, 0.6, 0.65], start=1):
        assert controller.after_round(round, ArrayRecord(), {"client_loss": loss}, None)
    assert controller.rate(4) == pytest.approx(0.1 * 0.5**3)
    assert capsys.readouterr().out.splitlines() == [
        "fl-sim: round 3 · plateau: learning rate 0.0125 from here on"
    ]


def test_training_ends_with_its_best_round_told(controlled, capsys):
    controller, told = controlled(stop_patience=2)
    goes_on = [
        controller.after_round(round, ArrayRecord(), {"client_auc": auc}, None)
        for round, auc in enumerate([0.6, 0.8, 0.7, 0.8], start=1)
    ]
    assert goes_on == [True, True, True, False]
    assert told[-1] == {"best": {"round": 2, "auc": 0.8, "stopped_after": 4}}
    assert told[0] == {"best": {"round": 1, "auc": 0.6, "stopped_after": None}}
    assert "auc was best in round 2, 2 rounds ago" in capsys.readouterr().out
