"""Levels, signs, and what an attacker knows of the rounding."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fl_sim.defences import create
from fl_sim.defences.quantise import Quantise

NAMES = ("body.2.weight", "head.weight")


def deltas(update, returned):
    return {n: returned[n].double() - update.sent[n].double() for n in NAMES}


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_every_entry_is_on_a_level_and_within_a_step(bits, rounding, client, seen):
    update = client(lr=10.0)  # a large update, so that the floats' own rounding does not show
    left = seen(create("quantise", {"bits": str(bits), "rounding": rounding}), update).returned
    true, got = deltas(update, update.returned), deltas(update, left)
    for name in NAMES:
        step = true[name].abs().max() / (2 ** (bits - 1) - 1)
        levels = got[name] / step
        torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-3)
        assert float(levels.abs().max()) <= 2 ** (bits - 1) - 1 + 1e-3
        furthest = float((got[name] - true[name]).abs().max() / step)
        assert furthest <= (0.501 if rounding == "nearest" else 1.001)


@given(st.floats(-1, 1), st.integers(2, 6))
def test_stochastic_rounding_is_right_on_average(value, bits):
    delta = torch.full((4000,), value, dtype=torch.float64)
    delta[0] = 1.0
    draw = torch.Generator().manual_seed(1)
    found = Quantise(bits=bits, rounding="stochastic")._quantised(delta, draw)[1:]
    step = 1 / (2 ** (bits - 1) - 1)
    assert float(found.mean()) == pytest.approx(value, abs=5 * 0.5 * step / 4000**0.5)


def test_stochastic_rounding_is_drawn_from_the_clients_own_stream(client):
    update = client(lr=10.0)
    defence = create("quantise", {"bits": "4", "rounding": "stochastic"})
    sent = [
        defence.apply(update, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    ]
    for name in NAMES:
        assert torch.equal(sent[0][name], sent[1][name])
        assert not torch.equal(sent[0][name], sent[2][name])


def test_one_bit_is_the_sign_times_the_mean_magnitude(client, seen):
    update = client(lr=10.0)
    left = seen(create("quantise", {"bits": "1"}), update).returned
    true, got = deltas(update, update.returned), deltas(update, left)
    for name in NAMES:
        expected = true[name].sign() * true[name].abs().mean()
        torch.testing.assert_close(got[name], expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("options", "error"),
    [({"bits": "8"}, 12), ({"bits": "4"}, 12), ({"bits": "8", "rounding": "stochastic"}, 6)],
)
def test_an_attacker_knows_the_step(options, error, client, seen):
    update = client(lr=10.0)
    defence = create("quantise", options)
    observation = seen(defence, update)
    levels = 2 ** (defence.bits - 1) - 1
    noise = defence.channel(observation).noise
    for name, delta in deltas(update, update.returned).items():
        step = float(delta.abs().max()) / levels
        assert noise[name] == pytest.approx(step / error**0.5, rel=1e-4)


@pytest.mark.parametrize("options", [{"bits": "1"}, {"bits": "8"}, {"bits": "6"}])
def test_the_error_of_a_normal_update_is_as_large_as_the_attacker_thinks(options):
    defence = create("quantise", options)
    delta = torch.randn(100_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sent = defence._quantised(delta, torch.Generator())
    thought = float(sent.abs().max()) * defence._relative_error
    assert float((sent - delta).square().mean().sqrt()) == pytest.approx(thought, rel=0.02)
    regressed = float((sent * delta).sum() / sent.square().sum())
    assert math.isclose(regressed, 1.0, rel_tol=0.02)  # no other factor reads it better


def test_eight_bits_cost_an_attacker_little_and_one_bit_much(client, seen, psnr_of_dlg):
    update = client()
    reached = {}
    for bits in (8, 1):
        defence = create("quantise", {"bits": str(bits)})
        observation = seen(defence, update)
        reached[bits] = psnr_of_dlg(observation, defence.channel(observation), update)
    assert reached[8] > 50
    assert reached[1] < 25
