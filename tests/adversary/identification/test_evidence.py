"""What stands for the path of local training, and for what limits and clipping leave open."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from adversary.identification import evidence
from adversary.identification.per_example import blocks
from adversary.identification.rehearsal import Rehearsal


def rehearsed(*steps):
    """Return a rehearsal in which the one weight takes these values."""
    weights = [{"weight": torch.as_tensor(value).view(1, -1)} for value in steps]
    return Rehearsal(weights, [], [], (torch.zeros(1), torch.zeros(1)))


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
