"""Schedules against torch's."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import CosineAnnealingLR, StepLR

from adversary.observation.schedules import SCHEDULES


@pytest.mark.parametrize("name", ["cosine", "step"])
@given(total=st.integers(1, 12), decay=st.floats(0.05, 1), every=st.integers(1, 5))
def test_factors_are_torch_s(name, total, decay, every):
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = (
        CosineAnnealingLR(optimiser, total) if name == "cosine" else StepLR(optimiser, every, decay)
    )
    for place in range(total):
        ours = SCHEDULES[name](place, total, decay, every)
        assert ours == pytest.approx(theirs.get_last_lr()[0])
        optimiser.step()
        theirs.step()


def test_a_constant_is_one():
    assert {SCHEDULES["constant"](place, 5, 0.1, 1) for place in range(5)} == {1.0}
