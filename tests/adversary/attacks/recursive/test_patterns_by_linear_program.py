from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from adversary.attacks.recursive.patterns_by_linear_program import patterns_by_linear_program


def taps_of(size, kernel=3, stride=1):
    every = torch.eye(size * size).double().view(-1, 1, size, size)
    return functional.unfold(every, kernel, padding=kernel // 2, stride=stride)


def case(batch, outputs, inputs, size, *, windows, seed, kernel=3, noise=0.0):
    """Return a gradient, errors, taps and units that are on; errors alike within a window."""
    draw = torch.Generator().manual_seed(seed)
    errors = torch.randn(batch, outputs, windows, windows, generator=draw).double()
    errors = functional.interpolate(errors, size=(size, size)).flatten(2)
    on = torch.rand(errors.shape, generator=draw) < 0.5
    values = torch.randn(batch, inputs, size * size, generator=draw).double().relu()
    taps = taps_of(size, kernel)
    gradient = torch.einsum("bop,qkp,biq->oik", errors * on, taps, values)
    gradient = gradient * (1 + noise * torch.randn(gradient.shape, generator=draw))
    return gradient, errors, taps, on


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("batch", "outputs", "inputs", "size", "windows"),
    [(1, 32, 40, 2, 1), (1, 32, 64, 4, 2), (2, 32, 48, 4, 2), (1, 24, 72, 8, 4), (3, 16, 20, 2, 1)],
)
def test_units_are_told_by_the_errors_that_they_meet(batch, outputs, inputs, size, windows, seed):
    gradient, errors, taps, on = case(
        batch, outputs, inputs, size, windows=windows, seed=seed, noise=1e-8
    )
    assert torch.equal(patterns_by_linear_program(gradient, errors, taps), on)


def test_more_positions_than_the_gradient_has_columns_are_not_told():
    gradient, errors, taps, _ = case(1, 32, 15, 4, windows=2, seed=0)
    assert patterns_by_linear_program(gradient, errors, taps) is None


def test_a_gradient_of_a_lower_rank_tells_nothing():
    gradient, errors, taps, _ = case(1, 32, 40, 4, windows=2, seed=0)
    assert patterns_by_linear_program(torch.zeros_like(gradient), errors, taps) is None
    assert patterns_by_linear_program(gradient[:, :1].expand_as(gradient), errors, taps) is None


def test_equal_errors_everywhere_hide_the_units():
    gradient, errors, taps, on = case(1, 32, 64, 6, windows=1, seed=0)
    found = patterns_by_linear_program(gradient, errors, taps)
    assert found is None or not torch.equal(found, on)


def test_noise_beyond_the_errors_is_noticed():
    gradient, errors, taps, on = case(1, 32, 64, 4, windows=2, seed=0, noise=0.3)
    found = patterns_by_linear_program(gradient, errors, taps)
    assert found is None or not torch.equal(found, on)
