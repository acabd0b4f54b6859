"""What stands for the path of local training, and for what limits and clipping leave open."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from adversary.identification import evidence
from adversary.identification.evidence import Update, along
from adversary.identification.per_example import blocks
from adversary.identification.rehearsal import Rehearsal


def rehearsed(*steps):
    """Return a rehearsal in which the one weight takes these values."""
    weights = [{"weight": torch.as_tensor(value).view(1, -1)} for value in steps]
    return Rehearsal(weights, [], [], (torch.zeros(1), torch.zeros(1)))


@pytest.mark.parametrize("seed", range(3))
def test_the_path_leaves_the_line_as_far_as_rehearsals_agree(seed):
    """By James and Stein's factor, of the mean's square without what is chance in it."""
    draws = torch.Generator().manual_seed(seed)
    off = 1.0 + torch.randn(4, 50, generator=draws)  # half-way, beside the line to zero
    size = torch.zeros(1, 50)
    model = nn.Linear(50, 1, bias=False)
    update = Update(
        moved={"weight": size}, points=[], entries={}, layers=[], images=1.0, batch_size=1,
        epochs=1.0, gain=[{"weight": torch.ones(())}] * 2, ends={"weight": size},
    )  # fmt: skip
    observation = SimpleNamespace(sent={"weight": size})
    found = along(update, model, observation, [rehearsed(size, one, size) for one in off])
    by_chance = float((off.var(0) / 4).sum())  # the variance of a mean of four
    factor = 1 - by_chance / float(off.mean(0).square().sum())
    assert 0.5 < factor < 0.9
    torch.testing.assert_close(found.points[1].weights["weight"], factor * off.mean(0)[None])
    alone = along(update, model, observation, [rehearsed(size, off[0], size)])
    torch.testing.assert_close(alone.points[1].weights["weight"], off[:1])


@pytest.mark.parametrize("count", [2, 3, 8])
def test_another_training_lies_as_far_from_the_mean_of_rehearsals_as_is_said(count):
    draws = torch.Generator().manual_seed(count)
    ends = 0.3 * torch.randn(count + 1, 40_000, generator=draws)
    sent = {"weight": torch.zeros(1, 40_000)}
    made = [rehearsed(sent["weight"], -end) for end in ends[:count]]
    mean, deviation = evidence._expected(made, sent, "weight")
    square = float(((ends[count] - mean) / deviation).square().mean())
    assert square == pytest.approx(1, abs=0.03)


def test_norms_are_those_of_whole_gradients_of_which_entries_are_read():
    draws = torch.Generator().manual_seed(0)
    arrays = {"large": torch.zeros(60, 70), "small": torch.zeros(30)}
    kept = blocks(arrays, 400, generator=draws)
    assert kept["large"].size < 500
    whole = [{n: torch.randn(v.shape, generator=draws) for n, v in arrays.items()}
             for _ in range(200)]  # fmt: skip
    rows = torch.stack([torch.cat([kept[n].of(one[n]) for n in kept]) for one in whole])
    found = evidence._norms(rows, SimpleNamespace(entries=kept, moved=arrays))
    exact = torch.stack([torch.cat([v.flatten() for v in one.values()]).norm() for one in whole])
    assert float((found / exact).square().mean()) == pytest.approx(1, abs=0.02)
