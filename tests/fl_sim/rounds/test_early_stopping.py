"""The pace of a run against torch's schedulers, and rules by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau

from fl_sim.rounds.early_stopping import Pace, Progress, pace_of


def walked(pace, figures):
    """Return the rate of every round and the progress after the last one that was run."""
    progress, rates = Progress(), []
    for number, figure in enumerate(figures, start=1):
        rates.append(pace.rate(number, progress))
        progress = pace.after(number, figure, progress)
        if pace.stops(progress):
            break
    return rates, progress


@given(
    figures=st.lists(st.floats(0, 1), min_size=1, max_size=25),
    patience=st.integers(1, 5),
    factor=st.floats(0.1, 0.9),
    min_delta=st.sampled_from([0.0, 0.05]),
    monitor=st.sampled_from(["auc", "loss"]),
)
def test_plateaus_are_torch_s(figures, patience, factor, min_delta, monitor):
    pace = Pace(
        lr=0.5, rounds=len(figures), monitor=monitor, min_delta=min_delta,
        plateau_patience=patience, plateau_factor=factor,
    )  # fmt: skip
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    theirs = ReduceLROnPlateau(
        optimiser, "max" if monitor == "auc" else "min", factor, patience - 1,
        threshold=min_delta, threshold_mode="abs", eps=0.0,
    )  # fmt: skip
    expected = []
    for figure in figures:
        expected.append(optimiser.param_groups[0]["lr"])
        theirs.step(figure)
    assert walked(pace, figures)[0] == pytest.approx(expected)


def test_training_stops_after_as_many_rounds_without_a_gain():
    pace = Pace(lr=1.0, rounds=9, stop_patience=2)
    rates, progress = walked(pace, [0.5, 0.7, 0.6, 0.71, 0.7, 0.71, 0.9])
    assert len(rates) == 6  # equal to the best is no gain
    assert (progress.best, progress.best_round, progress.waited) == (0.71, 4, 2)
    assert set(rates) == {1.0}


def test_less_loss_is_better():
    pace = Pace(lr=1.0, rounds=9, stop_patience=1, monitor="loss", min_delta=0.1)
    rates, progress = walked(pace, [1.0, 0.8, 0.75, 0.1])
    assert (len(rates), progress.best) == (3, 0.8)


@pytest.mark.parametrize("figure", [None, math.nan, math.inf])
def test_what_cannot_be_had_is_no_gain(figure):
    pace = Pace(lr=1.0, rounds=9, stop_patience=2)
    rates, progress = walked(pace, [figure, 0.6, figure, figure, 0.9])
    assert (len(rates), progress.best, progress.best_round) == (4, 0.6, 2)


def test_a_schedule_and_plateaus_multiply():
    pace = Pace(lr=0.3, rounds=6, schedule="cosine", plateau_patience=1, plateau_factor=0.5)
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    theirs = CosineAnnealingLR(optimiser, 6)
    cosine = []
    for _ in range(6):
        cosine.append(theirs.get_last_lr()[0])
        optimiser.step()
        theirs.step()
    rates, _ = walked(pace, [0.5] * 6)  # a plateau after every round but the first
    assert rates == pytest.approx([c * 0.5 ** max(0, n - 1) for n, c in enumerate(cosine)])


def test_nothing_is_monitored_by_default(quick):
    pace = pace_of(quick(local__lr=0.2))
    rates, progress = walked(pace, [0.9, 0.1, 0.1, 0.1])
    assert (rates, progress) == ([0.2] * 4, Progress())


def test_a_schedule_over_steps_is_none_over_rounds(quick):
    over_rounds = pace_of(quick(local__schedule="step", local__decay_every=1))
    over_steps = pace_of(quick(local__schedule="step", local__schedule_over="steps"))
    assert over_rounds.rate(2, Progress()) == pytest.approx(0.1 * over_steps.rate(2, Progress()))
