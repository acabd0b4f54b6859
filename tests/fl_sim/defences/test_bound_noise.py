"""Levels of the least information for their energy, known to both sides."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.optimize import minimize

from adversary.observation.mechanisms.bound_placement import placed_levels
from fl_sim.defences import DefenceError, create


@pytest.mark.parametrize("seed", range(3))
def test_the_levels_are_those_of_a_general_optimiser(seed):
    draw = torch.Generator().manual_seed(seed)
    told = (3 * torch.randn(4, generator=draw)).exp().tolist()
    sizes = torch.randint(1, 50, (4,), generator=draw).tolist()
    names = "abcd"
    entries = dict(zip(names, sizes, strict=True))
    levels = placed_levels(dict(zip(names, told, strict=True)), entries, 2.0)

    def trace(logs):
        shares = torch.tensor(logs, dtype=torch.float64).softmax(0) * 2.0  # n_a s_a^2
        return float(sum(n * n * t / s for n, t, s in zip(sizes, told, shares, strict=True)))

    best = minimize(trace, torch.zeros(4).numpy(), method="Nelder-Mead", tol=1e-12)
    assert sum(n * levels[k] ** 2 for k, n in entries.items()) == pytest.approx(2.0)
    own = sum(n * t / levels[k] ** 2 for k, n, t in zip(names, sizes, told, strict=True))
    assert own == pytest.approx(best.fun, rel=1e-3)


def test_the_noise_has_the_energy_that_was_asked_for_and_the_levels_that_are_told(client, seen):
    update = client(images=2)
    defence = create("bound-noise", {"scale": "0.5"}).fitted(lambda: update.model, (1, 12, 12))
    left = [seen(defence, update, seed=seed) for seed in range(20)]
    moved = {n: update.returned[n].double() - update.sent[n].double() for n in update.sent}
    noise = [{n: o.returned[n].double() - update.returned[n].double() for n in moved} for o in left]
    energy = sum(float(v.square().sum()) for one in noise for v in one.values()) / len(noise)
    norm = math.sqrt(sum(float(v.square().sum()) for v in moved.values()))
    assert math.sqrt(energy) == pytest.approx(0.5 * norm, rel=0.05)
    levels = defence.channel(left[0]).noise
    assert levels.keys() == {name for name, _ in update.model.named_parameters()}
    told = math.sqrt(sum(moved[name].numel() * level**2 for name, level in levels.items()))
    assert told == pytest.approx(0.5 * norm, rel=0.05)
    for name, level in levels.items():
        rms = math.sqrt(sum(float(one[name].square().mean()) for one in noise) / len(noise))
        assert rms == pytest.approx(level, rel=0.35), name


def test_none_is_none_and_the_architecture_is_needed(client, seen):
    update = client()
    left = seen(create("bound-noise", {"scale": "0"}), update).returned
    assert all(torch.equal(value, update.returned[name]) for name, value in left.items())
    with pytest.raises(DefenceError, match="^bound-noise: its levels take the architecture"):
        create("bound-noise").channel(seen(create("none"), update))
    with pytest.raises(DefenceError, match="^defence.scale = -1.0: must be a number >= 0$"):
        create("bound-noise", {"scale": "-1"})
