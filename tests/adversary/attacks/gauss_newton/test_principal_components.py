from __future__ import annotations

import pytest
import torch

from adversary import ThreatModel, TrainingRecipe
from adversary.attacks.gauss_newton.principal_components import SubspaceResiduals, TruncationNoise
from adversary.priors.smooth import smooth_prior
from adversary.problem.problem import build_problem
from adversary.problem.residuals import residuals


def few_of(tiny_net, update, *, batch=3, count=4, inflation=2.0, draws=(8, 4), **recipe):
    model = tiny_net(seed=3)
    draw = torch.Generator().manual_seed(batch)
    images = torch.rand(batch, 1, 8, 8, generator=draw)
    labels = torch.arange(batch) % 2
    seen = update(model, images, labels, TrainingRecipe(lr=0.1, **{"batch_size": batch, **recipe}))
    problem = build_problem(seen, ThreatModel(labels=labels), model, image_shape=(1, 8, 8))
    problem = problem.to(torch.float64)
    equations = residuals(problem, problem.targets(labels), 2.0, 0)
    few = SubspaceResiduals(
        equations, smooth_prior((1, 8, 8)), count, inflation=inflation, draws=draws
    )
    return few, torch.randn(batch, 1, 1, count, generator=draw, dtype=torch.float64)


def test_noise_is_whitened_by_the_root_of_its_covariance():
    draw = torch.Generator().manual_seed(0)
    strong = 10 * torch.randn(3, 12, generator=draw, dtype=torch.float64)
    noise = TruncationNoise(strong, torch.randn(40, 12, generator=draw, dtype=torch.float64), 3.0)
    covariance = 3.0 * (strong.T @ strong + noise.rest * torch.eye(12).double())
    found = noise.whiten(torch.eye(12).double())
    torch.testing.assert_close(found @ found, torch.linalg.inv(covariance))
    assert 1.3 < noise.rest < 2.3  # a floor of 1, and what 9 of 12 directions have of 1


@pytest.mark.parametrize("recipe", [{}, {"batch_size": 1}], ids=["one step", "three steps"])
def test_derivatives_are_those_of_the_residuals(tiny_net, update, recipe):
    few, z = few_of(tiny_net, update, **recipe)
    rows = torch.func.jacrev(few)(z).reshape(len(few), -1).T
    torch.testing.assert_close(few.rows(z, 3), rows, rtol=1e-7, atol=1e-6)
    draw = torch.Generator().manual_seed(1)
    u = torch.randn(len(few), generator=draw, dtype=torch.float64)
    torch.testing.assert_close(few.pullback(z)(u), rows @ u, rtol=1e-7, atol=1e-5)
    v = torch.randn(z.shape, generator=draw, dtype=torch.float64)
    h = 1e-3
    bend = (few(z + h * v) - 2 * few(z) + few(z - h * v)) / h**2
    torch.testing.assert_close(few.bend(z, v), bend, rtol=1e-3, atol=1e-3 * float(bend.norm()))


def test_the_noise_of_the_other_coordinates_is_that_of_draws(tiny_net, update):
    few, z = few_of(tiny_net, update, inflation=1.0, draws=(640, 160))
    draw = torch.Generator().manual_seed(5)
    squares = []
    for _ in range(100):
        others = torch.randn(3, 60, generator=draw, dtype=torch.float64)
        z = torch.randn(z.shape, generator=draw, dtype=torch.float64)
        added = few.equations(few.images(z, others)) - few.equations(few.images(z))
        squares.append(float(few.noise.whiten(added).square().mean()))
    assert 0.5 < sum(squares) / len(squares) < 2.0  # heavy tails


def test_other_coordinates_are_filled_in_to_first_order(tiny_net, update):
    few, z = few_of(tiny_net, update)
    mean = few.mean.repeat(3, 1, 1, 1)
    jacobian = few.equations.rows(mean).view(3, 64, -1)
    others = torch.cat([few._others @ share for share in jacobian])  # (3 * 60, m)
    r = few.equations(few.images(z))
    noise = few.noise.whiten(few.noise.whiten(torch.eye(len(r)).double())) * few.noise.inflation
    expected = few.images(z, -(others @ (noise @ r)).view(3, -1))
    torch.testing.assert_close(few.filled(z), expected, rtol=1e-6, atol=1e-8)
