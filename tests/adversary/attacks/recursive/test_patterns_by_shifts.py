from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional

from adversary.attacks.recursive.patterns_by_shifts import patterns_by_shifts


def taps_of(grid, size=3, stride=1):
    every = torch.eye(grid[0] * grid[1]).double().view(-1, 1, *grid)
    return functional.unfold(every, size, padding=size // 2, stride=stride)


def convolution(images, grid, *, outputs=48, inputs=40, seed=0, signs=None):
    """Return a convolution's gradient by autograd, the factors and units that were on."""
    draw = torch.Generator().manual_seed(seed)
    seen = torch.randn(images, inputs, *grid, generator=draw).double().relu()
    units = torch.rand(images, outputs, *grid, generator=draw) > 0.4
    factors = torch.randn(outputs, generator=draw).double()
    size = torch.rand(images, generator=draw).double() + 0.2
    if signs is not None:
        size = size * torch.tensor(signs).double()
    weight = torch.zeros(outputs, inputs, 3, 3, dtype=torch.float64, requires_grad=True)
    error = size.view(-1, 1, 1, 1) * factors.view(-1, 1, 1) * units
    functional.conv2d(seen, weight, padding=1).backward(error)
    return weight.grad.flatten(2), factors, units.flatten(2)


def assert_units(found, units):
    told, _ = found
    orders = [list(order) for order in itertools.permutations(range(len(units)))]
    assert any(torch.equal(told[order].bool(), units) for order in orders)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("images", "grid"),
    [(1, (2, 2)), (1, (5, 4)), (1, (7, 7)), (2, (3, 3)), (3, (2, 4)), (6, (2, 2))],
)
def test_shifted_maps_tell_the_units_of_every_position(images, grid, seed):
    gradient, factors, units = convolution(images, grid, outputs=64, inputs=56, seed=seed)
    assert_units(patterns_by_shifts(gradient, factors, taps_of(grid), images), units)


def test_signs_of_the_images_factors_are_told():
    gradient, factors, units = convolution(3, (3, 2), signs=[1, -1, 1])
    told, signs = patterns_by_shifts(gradient, factors, taps_of((3, 2)), 3)
    of = [next(b for b in range(3) if torch.equal(t.bool(), units[b])) for t in told]
    assert signs.tolist() == [[1, -1, 1][b] for b in of]


@pytest.mark.parametrize("noise", [1e-6, 1e-4])
def test_noise_in_the_gradient_changes_no_units(noise):
    gradient, factors, units = convolution(2, (3, 3))
    draw = torch.Generator().manual_seed(1)
    blurred = gradient + noise * gradient.std() * torch.randn(gradient.shape, generator=draw)
    told, _ = patterns_by_shifts(blurred, factors, taps_of((3, 3)), 2)
    strong = factors.abs() > 0.05
    assert_units((told[:, strong], None), units[:, strong])


def test_outputs_without_a_factor_are_left_out():
    gradient, factors, units = convolution(1, (3, 3))
    gradient[3], factors[3] = 0, 0
    told, _ = patterns_by_shifts(gradient, factors, taps_of((3, 3)), 1)
    others = torch.arange(len(factors)) != 3
    assert torch.equal(told[0, others].bool(), units[0, others])


def test_what_shifts_do_not_tell_is_none():
    gradient, factors, _ = convolution(1, (3, 3))
    noise = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(0)).double()
    assert patterns_by_shifts(noise, factors, taps_of((3, 3)), 1) is None
    assert patterns_by_shifts(gradient, factors, taps_of((3, 3)), 2) is None  # one image, not two
    assert patterns_by_shifts(gradient[:, :, 4:5], factors, taps_of((3, 3), size=1), 1) is None
    assert patterns_by_shifts(gradient, factors, taps_of((6, 6), stride=2), 1) is None
    assert (
        patterns_by_shifts(gradient, factors, taps_of((7, 7)), 1) is None
    )  # more positions than outputs
