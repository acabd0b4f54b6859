"""The account of a mod is refuted where its noise is for less than updates can differ by."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.clientapp.mod import LocalDpMod

from adversary.identification.one_run_audit import AuditError
from strategies.mods import CalibratedLocalDpMod, TopKMod, audit_mod


@pytest.fixture(autouse=True)
def _noise_that_repeats():
    """Flower's mod draws from numpy's global state."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    yield
    np.random.set_state(before)  # noqa: NPY002


CLAIM = {"epsilon": 1.0, "delta": 1e-5}


def flowers(sensitivity):
    return LocalDpMod(clipping_norm=1.0, sensitivity=sensitivity, **CLAIM)


@pytest.mark.parametrize("neighbours", ["replace one", "add or remove one"])
def test_a_mistyped_sensitivity_is_found(neighbours):
    assert audit_mod(flowers(0.1), **CLAIM, canaries=300, neighbours=neighbours).is_wrong


def test_noise_for_what_updates_can_differ_by_is_not_refuted():
    assert not audit_mod(flowers(2.0), **CLAIM, canaries=300).is_wrong
    once = audit_mod(flowers(1.0), **CLAIM, canaries=300, neighbours="add or remove one")
    assert not once.is_wrong


def test_rounds_add_up():
    mod = CalibratedLocalDpMod(0.5, 3.0, 1e-3, rounds=4, seed=1)
    assert not audit_mod(mod, epsilon=3.0, delta=1e-3, rounds=4, canaries=200).is_wrong
    for_one_round = CalibratedLocalDpMod(0.5, 1.0, 1e-3, rounds=1)
    with pytest.raises(AuditError, match="a mod answers with an error: .*1 rounds is spent"):
        audit_mod(for_one_round, epsilon=1.0, delta=1e-3, rounds=2, canaries=1)
    # The epsilon of one round, taken for that of twenty.
    assert audit_mod(flowers(2.0), **CLAIM, rounds=20, canaries=300).is_wrong


@pytest.mark.parametrize("neighbours", ["replace one", "add or remove one"])
def test_a_defence_without_noise_earns_nothing(neighbours):
    found = audit_mod([TopKMod(0.5)], epsilon=4.0, delta=1e-5, canaries=500, neighbours=neighbours)
    assert found.correct == found.guesses == 500  # who sends nothing is told as surely
    assert found.is_wrong


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"canaries": 0}, "canaries = 0: must be an integer >= 1"),
        ({"rounds": 0}, "rounds = 0: must be an integer >= 1"),
        ({"neighbours": "all"}, "neighbours = all: must be replace one or add or remove one"),
    ],
)
def test_what_does_not_fit_is_named(given, message):
    with pytest.raises(AuditError, match=message):
        audit_mod(flowers(1.0), **CLAIM, **given)
