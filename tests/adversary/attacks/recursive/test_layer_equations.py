from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from adversary.attacks.recursive.layer_equations import solve_layer


def case(batch, outputs, inputs, size, seed, kernel=3):
    """Return a gradient, as autograd has it, with the errors, inputs and taps it is of."""
    draw = torch.Generator().manual_seed(seed)
    errors = torch.randn(batch, outputs, size, size, generator=draw).double()
    errors = errors * (torch.rand(errors.shape, generator=draw) < 0.6)
    values = torch.randn(batch, inputs, size, size, generator=draw).double().relu()
    weight = torch.zeros(outputs, inputs, kernel, kernel).double().requires_grad_()
    output = functional.conv2d(values, weight, padding=kernel // 2)
    (gradient,) = torch.autograd.grad((output * errors).sum(), weight)
    every = torch.eye(size * size).double().view(-1, 1, size, size)
    taps = functional.unfold(every, kernel, padding=kernel // 2)
    return gradient.flatten(2), errors.flatten(2), values.flatten(2), taps


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("batch", "outputs", "inputs", "size", "kernel"),
    [(1, 8, 12, 4, 3), (2, 16, 20, 3, 3), (1, 40, 30, 5, 1), (1, 6, 9, 4, 5)],
)
def test_inputs_are_those_of_the_gradient(batch, outputs, inputs, size, kernel, seed):
    gradient, errors, values, taps = case(batch, outputs, inputs, size, seed, kernel)
    found = solve_layer(gradient, errors, taps, usual=1e-9)
    assert found is not None
    torch.testing.assert_close(found.inputs, values, rtol=0, atol=1e-8)
    assert found.left < 1e-9
    assert torch.equal(found.errors, errors)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("mistakes", [1, 4])
def test_mistaken_errors_of_a_few_outputs_are_mended(mistakes, seed):
    gradient, errors, values, taps = case(1, 24, 20, 4, seed)
    wrong = errors.clone()
    draw = torch.Generator().manual_seed(seed)
    for output in torch.randperm(24, generator=draw)[:mistakes].tolist():
        wrong[0, output, int(torch.randint(16, (1,), generator=draw))] += 0.7
    found = solve_layer(gradient, wrong, taps, usual=1e-9)
    assert found is not None
    torch.testing.assert_close(found.errors, errors, rtol=0, atol=1e-8)
    torch.testing.assert_close(found.inputs, values, rtol=0, atol=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_errors_in_doubt_are_all_there_or_not_at_all(seed):
    gradient, errors, values, taps = case(1, 24, 20, 4, seed)
    draw = torch.Generator().manual_seed(seed)
    doubt = torch.where(torch.rand(errors.shape, generator=draw) < 0.3, errors, 0)
    doubt[:, 8:] = 0  # of a third of the outputs
    lacking = doubt * (torch.rand(errors.shape, generator=draw) < 0.5)
    idle = (errors == 0) & (torch.rand(errors.shape, generator=draw) < 0.3)
    idle[:, 8:] = False
    found = solve_layer(gradient, errors - lacking, taps, doubt=doubt + 0.5 * idle, usual=1e-9)
    assert found is not None
    torch.testing.assert_close(found.errors, errors, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.inputs, values, rtol=0, atol=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_signs_tell_where_equations_are_scarce(seed):
    gradient, errors, values, taps = case(2, 9, 20, 6, seed)  # 81 equations, 72 unknowns
    noise = 1e-3 * torch.randn(gradient.shape, generator=torch.Generator().manual_seed(seed))
    noisy = gradient + noise.double()
    plain = solve_layer(noisy, errors, taps, usual=1e-2)
    found = solve_layer(noisy, errors, taps, usual=1e-2, positive=True)
    assert plain is not None
    assert found is not None
    off = values == 0
    assert (found.inputs >= 0).all()
    assert (found.inputs - values).norm() < 0.6 * (plain.inputs - values).norm()
    ratios = (found.inputs - values) / found.deviation
    assert ratios[~off].square().mean().sqrt() < 2
    assert (found.inputs / found.deviation)[off].max() < 8


@pytest.mark.parametrize("seed", range(3))
def test_mistaken_errors_are_mended_where_signs_are_needed(seed):
    gradient, errors, values, taps = case(2, 12, 40, 6, seed)  # 108 equations, 72 unknowns
    wrong = errors.clone()
    wrong[1, seed, 17] += 0.7
    plain = solve_layer(gradient, wrong, taps, usual=1e-9)
    found = solve_layer(gradient, wrong, taps, usual=1e-9, positive=True)
    assert plain is not None
    assert found is not None
    torch.testing.assert_close(found.errors, errors, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.inputs, values, rtol=0, atol=1e-6)


def test_what_nothing_explains_is_left_as_it_is():
    gradient, errors, _, taps = case(1, 24, 20, 4, 0)
    wrong = errors + torch.randn(errors.shape, generator=torch.Generator().manual_seed(0)) * 0.3
    found = solve_layer(gradient, wrong, taps, usual=1e-9)
    assert found is not None
    assert torch.equal(found.errors, wrong)
    assert found.left > 0.1


def test_fewer_equations_than_positions_tell_nothing():
    gradient, errors, _, taps = case(1, 1, 20, 4, 0)
    assert solve_layer(gradient, errors, taps, usual=1e-9) is None
    assert solve_layer(gradient, torch.zeros_like(errors), taps, usual=1e-9) is None
