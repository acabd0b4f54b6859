"""Limits of entries say what the normal distribution between them says."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from adversary.identification.intervals import Limits, regress_within
from adversary.identification.regression import regress


def test_values_stand_for_limits():
    lower, upper = torch.tensor([-1.0, 0.0, -math.inf]), torch.tensor([0.5, math.inf, 3.0])
    limits, mean, spread = Limits(lower.double(), upper.double()), torch.tensor(0.3), 2.0
    value, noise = limits.values(mean.double(), torch.tensor(spread).double())
    precision = 1 / spread**2 + 1 / noise.square()
    found = (0.3 / spread**2 + value / noise.square()) / precision
    for place, (low, high) in enumerate(zip(lower.tolist(), upper.tolist(), strict=True)):
        exact = stats.truncnorm((low - 0.3) / spread, (high - 0.3) / spread, 0.3, spread)
        assert float(found[place]) == pytest.approx(exact.mean(), rel=1e-5)
        assert float(1 / precision[place]) == pytest.approx(exact.var(), rel=1e-5)
    inside = limits.mean(mean.double(), torch.tensor(spread).double())
    torch.testing.assert_close(inside, found)


def test_a_known_value_is_itself():
    at = torch.tensor([0.7]).double()
    value, noise = Limits(at, at).values(torch.zeros(1).double(), torch.ones(1).double())
    assert (float(value), float(noise)) == (pytest.approx(0.7), 0.0)


def test_signs_of_a_weak_update_keep_two_over_pi_of_what_it_tells():
    draws, misfit = torch.Generator().manual_seed(0), 0.25
    row = torch.randn(1, 1, 1000, generator=draws)
    none, spread = torch.zeros(1, 0, 1000), (misfit * row.square().sum()).sqrt().expand(1000)
    whole, signs = [], []
    for _ in range(300):
        data = row[0, 0] + spread * torch.randn(1000, generator=draws)
        ends = torch.where(data > 0, 0.0, -math.inf), torch.where(data > 0, math.inf, 0.0)
        limits = Limits(*(end.double() for end in ends))
        value, noise = limits.values(torch.zeros(1000).double(), spread.double())
        told = value.float(), row, none
        signs.append(regress_within(limits, *told, noise=noise.float(), misfit=misfit).statistic)
        whole.append(regress(data, row, none, misfit=misfit).statistic)
    kept = torch.stack(signs).mean() / torch.stack(whole).mean()
    assert float(kept) == pytest.approx((2 / math.pi) ** 0.5, abs=0.1)
