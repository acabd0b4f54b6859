"""Earned epsilons are those of opacus, of dp_accounting, of closed forms, and of Flower's noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp.mod import LocalDpMod as FlowersMod
from flwr.supercore.task_identity import TaskIdentity
from opacus.accountants import PRVAccountant, RDPAccountant
from scipy.optimize import brentq
from scipy.stats import norm

from fl_sim.offline.check_dp import CheckError, LocalDpMod, create, report


def exact(mu, delta):
    """Return the epsilon of a Gaussian mechanism at distance mu, from its trade-off curve."""

    def excess(epsilon):
        log_tail = epsilon + norm.logcdf(-mu / 2 - epsilon / mu)
        return norm.cdf(mu / 2 - epsilon / mu) - math.exp(log_tail) - delta

    return brentq(excess, 0, mu * mu + 50 * mu)


@pytest.mark.parametrize("multiplier", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("rounds", [1, 10])
def test_one_mechanism_is_exact(multiplier, rounds):
    options = {"clipping_norm": "2", "noise_multiplier": str(multiplier), "rounds": str(rounds)}
    [one] = create("central-dp", options).earned()
    assert one.round_epsilon == pytest.approx(exact(1 / multiplier, 1e-5), rel=1e-3)
    assert one.epsilon == pytest.approx(exact(math.sqrt(rounds) / multiplier, 1e-5), rel=1e-3)


@pytest.mark.parametrize(("multiplier", "batch", "epochs"), [(1.0, 10, 2), (2.0, 5, 1)])
def test_dp_sgd_is_that_of_two_accountants(multiplier, batch, epochs):
    mechanism = create(
        "dp-sgd",
        {"noise_multiplier": str(multiplier), "batch_size": str(batch), "examples": "100",
         "epochs": str(epochs), "rounds": "3", "delta": "1e-4"},
    )  # fmt: skip
    steps = epochs * 100 // batch * 3
    pld, rdp = mechanism.earned()
    renyi, prv = RDPAccountant(), PRVAccountant()
    for accountant in (renyi, prv):
        accountant.history = [(multiplier, batch / 100, steps)]
    assert rdp.epsilon == pytest.approx(renyi.get_epsilon(1e-4), rel=0.01)
    assert pld.epsilon == pytest.approx(prv.get_epsilon(1e-4, eps_error=1e-3), rel=0.01)
    assert pld.epsilon < rdp.epsilon


def test_a_mistyped_sensitivity_earns_two_hundred_million():
    mechanism = create(
        "local-dp-mod", {"clipping-norm": "1", "sensitivity": "1e-4", "epsilon": "10"}
    )
    added, replaced = mechanism.earned()
    assert added.round_epsilon == pytest.approx(2.13e8, rel=0.01)
    assert replaced.round_epsilon == pytest.approx(4 * 2.13e8, rel=0.01)
    assert any(
        line.startswith("WRONG: the settings claim epsilon 10") for line in report(mechanism)
    )


def test_settings_that_earn_what_they_claim_are_not_called_wrong():
    mechanism = LocalDpMod(clipping_norm=1.0, sensitivity=1.0, epsilon=0.9)
    assert mechanism.earned()[0].round_epsilon <= 0.9
    assert not any("WRONG" in line for line in report(mechanism))


def test_noise_is_that_which_flower_adds():
    mechanism = LocalDpMod(clipping_norm=1.0, sensitivity=0.3, epsilon=2.0, delta=1e-3)
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 1
    sent = ArrayRecord({"w": Array(np.zeros(20_000))})
    message = Message(
        content=RecordDict({"arrays": sent, "config": ConfigRecord({})}),
        dst_node_id=1,
        message_type="train",
    )

    def answer(message, context):
        content = RecordDict({"arrays": ArrayRecord({"w": Array(np.full(20_000, 1e-4))}),
                              "metrics": MetricRecord({"num-examples": 1})})  # fmt: skip
        return Message(content, reply_to=message)

    mod = FlowersMod(clipping_norm=1.0, sensitivity=0.3, epsilon=2.0, delta=1e-3)
    reply = mod(message, None, answer)
    noise = next(iter(reply.content.array_records.values()))["w"].numpy()
    assert noise.std() == pytest.approx(mechanism.sigma, rel=0.03)


def test_no_noise_earns_nothing():
    [one] = create("central-dp", {"clipping_norm": "1", "noise_multiplier": "0"}).earned()
    assert math.isinf(one.epsilon)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dpsgd", {}, "dpsgd: must be one of .*; did you mean dp-sgd"),
        ("dp-sgd", {"noise": "1"}, "noise: dp-sgd has .*; did you mean noise_multiplier"),
        ("dp-sgd", {"noise_multiplier": "1"}, "needs batch_size, examples as well"),
        ("dp-sgd", {"noise_multiplier": "-1"}, "noise_multiplier = -1: must be a number from 0"),
        ("local-dp-mod", {"delta": "1"}, "delta = 1: must be above 0 and below 1"),
        ("local-dp-mod", {"rounds": "1.5"}, "rounds = '1.5': must be a whole number from 1"),
        ("local-dp-mod", {"epsilon": "nan"}, "epsilon = nan: must be a number above 0"),
        ("local-dp-mod", {"epsilon": "x"}, "epsilon = 'x': must be a number above 0"),
    ],
)
def test_mistakes_are_named(name, options, message):
    with pytest.raises(CheckError, match=message):
        create(name, options)


def test_a_batch_of_more_than_all_is_named():
    mechanism = create("dp-sgd", {"noise_multiplier": "1", "batch_size": "9", "examples": "8"})
    with pytest.raises(CheckError, match="batch_size = 9: must be at most examples = 8"):
        mechanism.earned()
