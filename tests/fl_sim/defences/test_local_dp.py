"""Clipping and noise are Flower's, the account is a sound and tight one."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp.mod import LocalDpMod
from flwr.supercore.differential_privacy import compute_clip_model_update
from flwr.supercore.task_identity import TaskIdentity
from scipy.optimize import brentq
from scipy.stats import norm

from adversary.observation.channel import Channel
from adversary.observation.recipe import TrainingRecipe
from fl_sim.defences import create

RECIPE = TrainingRecipe(lr=0.1, batch_size=1)
COUNTS = {"num_examples": 10, "clients": 4}


@pytest.mark.parametrize("clip", [0.003, 0.05, 100.0])
@pytest.mark.parametrize("seed", range(2))
def test_clipping_is_flowers(clip, seed, client, seen):
    update = client(seed=seed, images=2)
    defence = create("local-dp", {"clip": str(clip), "noise_multiplier": "0"})
    found = seen(defence, update).returned
    expected = [v.double().numpy().copy() for v in update.returned.values()]
    compute_clip_model_update(expected, [v.double().numpy() for v in update.sent.values()], clip)
    for value, other in zip(found.values(), expected, strict=True):
        np.testing.assert_allclose(value.numpy(), other, rtol=1e-6, atol=1e-7)


def through_the_mod(update, mod):
    """Return what Flower's own mod makes of an update."""
    # A message takes its sender and its run from these process-wide values.
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 1
    arrays = {name: Array(value.numpy()) for name, value in update.sent.items()}
    content = RecordDict({"arrays": ArrayRecord(arrays), "config": ConfigRecord()})
    message = Message(content, 1, "train")

    def train(message, context):
        trained = {name: Array(value.numpy().copy()) for name, value in update.returned.items()}
        return Message(RecordDict({"arrays": ArrayRecord(trained)}), reply_to=message)

    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
    return mod(message, context, train).content["arrays"].to_torch_state_dict()


def test_the_noise_is_that_of_flowers_mod(client, seen):
    update = client(images=2)
    clip, multiplier, delta = 0.02, 0.5, 1e-5
    defence = create(
        "local-dp", {"clip": str(clip), "noise_multiplier": str(multiplier), "delta": str(delta)}
    )
    # The mod takes an epsilon: the one of the classical formula for this noise.
    epsilon = math.sqrt(2 * math.log(1.25 / delta)) / multiplier
    theirs = through_the_mod(update, LocalDpMod(clip, clip, epsilon, delta))
    ours = seen(defence, update).returned
    noiseless = seen(create("local-dp", {"clip": str(clip), "noise_multiplier": "0"}), update)
    for name in ("body.2.weight", "body.4.weight"):
        one, other = (x[name].double() - noiseless.returned[name].double() for x in (ours, theirs))
        assert float(one.std()) == pytest.approx(multiplier * clip, rel=0.03)
        assert float(one.std()) == pytest.approx(float(other.std()), rel=0.03)
        assert abs(float(one.mean())) < 5 * multiplier * clip / one.numel() ** 0.5


def test_buffers_are_neither_counted_nor_noisy(client, seen):
    update = client(model="resnet18-sigmoid", images=2)
    update.returned["body.2.bn1.running_mean"] += 1e6
    found = seen(create("local-dp", {"clip": "1e3", "noise_multiplier": "0"}), update).returned
    assert all(torch.allclose(v, update.returned[n]) for n, v in found.items())
    noisy = seen(create("local-dp"), update).returned
    buffers = {n for n, _ in update.model.named_buffers()}
    assert buffers == {n for n, v in noisy.items() if torch.equal(v, update.returned[n])}


def exact_epsilon(sigma, delta):
    """Epsilon of one Gaussian mechanism of sensitivity 1 (Balle and Wang, ICML 2018, eq. 6)."""

    def excess(epsilon):
        a, b = 0.5 / sigma - epsilon * sigma, -0.5 / sigma - epsilon * sigma
        return norm.cdf(a) - math.exp(epsilon + norm.logcdf(b)) - delta

    return brentq(excess, 0, 1e4)


@pytest.mark.parametrize("multiplier", [1.0, 4.0, 20.0])
@pytest.mark.parametrize("rounds", [1, 5])
def test_the_account_is_above_the_exact_epsilon_and_near_it(multiplier, rounds):
    # Composed Gaussian mechanisms are one of a noise smaller by sqrt(rounds); sensitivity 2 C.
    defence = create("local-dp", {"noise_multiplier": str(multiplier), "delta": "1e-5"})
    account = defence.account(defence.recipe(RECIPE), rounds=rounds, **COUNTS)
    exact = exact_epsilon(multiplier / 2 / math.sqrt(rounds), defence.delta)
    assert exact <= account.epsilon <= 1.25 * exact
    assert (account.unit, account.neighbours) == ("client", "replace one")
    assert account.delta == defence.delta


@pytest.mark.parametrize("rounds", [1, 7])
def test_the_account_is_that_of_the_accountants(rounds):
    from dp_accounting import GaussianDpEvent, NeighboringRelation
    from dp_accounting.rdp import RdpAccountant
    from opacus.accountants import RDPAccountant

    defence = create("local-dp", {"noise_multiplier": "6", "delta": "1e-5"})
    epsilon = defence.account(defence.recipe(RECIPE), rounds=rounds, **COUNTS).epsilon
    opacus = RDPAccountant()
    google = RdpAccountant(neighboring_relation=NeighboringRelation.REPLACE_ONE)
    for _ in range(rounds):
        opacus.step(noise_multiplier=3.0, sample_rate=1.0)
        google.compose(GaussianDpEvent(3.0))
    assert epsilon == pytest.approx(opacus.get_epsilon(defence.delta), rel=1e-9)
    assert epsilon == pytest.approx(google.get_epsilon(defence.delta), rel=0.01)


def test_no_epsilon_is_given_where_none_is_earned():
    silent = create("local-dp", {"noise_multiplier": "0"})
    assert silent.account(silent.recipe(RECIPE), rounds=1, **COUNTS) is None
    clear = create("local-dp", {"statistics": "clear"})
    assert clear.recipe(RECIPE).batch_norm == "train"
    assert clear.account(clear.recipe(RECIPE), rounds=1, **COUNTS) is None
    still = dataclasses.replace(RECIPE, batch_norm="eval")  # no statistics move, none leak
    assert clear.account(clear.recipe(still), rounds=1, **COUNTS) is not None
    frozen = create("local-dp")
    assert frozen.recipe(RECIPE).batch_norm == "eval"
    assert frozen.account(frozen.recipe(RECIPE), rounds=1, **COUNTS) is not None
    assert not frozen.reports_losses


@pytest.mark.parametrize(("clients", "delta"), [(4, 0.01), (900, 0.001)])
def test_the_default_delta_follows_the_clients(clients, delta):
    account = create("local-dp").account(RECIPE, num_examples=9, clients=clients, rounds=1)
    assert account.delta == pytest.approx(delta)


def test_an_attacker_that_does_not_know_the_clip_fails(client, seen, psnr_of_dlg):
    update = client()
    defence = create("local-dp", {"clip": "0.01", "noise_multiplier": "0"})
    observation = seen(defence, update)
    assert psnr_of_dlg(observation, defence.channel(observation), update) > 60
    assert psnr_of_dlg(observation, Channel(), update) < 20


def test_an_attacker_knows_the_noise(client, seen):
    update = client()
    defence = create("local-dp", {"clip": "0.5", "noise_multiplier": "0.2"})
    channel = defence.channel(seen(defence, update))
    assert channel.clip == 0.5
    assert channel.noise == dict.fromkeys(update.sent, pytest.approx(0.1))
