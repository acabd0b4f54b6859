"""Limits of entries: what they leave open, and what an attacker makes of them, by simulation."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from adversary import ThreatModel, TrainingRecipe
from adversary.observation.mechanisms import Quantised
from adversary.priors.gaussian import GaussianPrior
from adversary.problem.interval_equations import (
    Distances,
    IntervalEquations,
    gradient_intervals,
    has_intervals,
    likeliest_factor,
    precision_of,
    prior_noise,
    self_consistent,
    variance_of,
)
from adversary.problem.problem import build_problem

N, M = 24, 1500


def standard_prior(n=N):
    mean = torch.zeros(1, 1, 1, n, dtype=torch.float64)
    return GaussianPrior(mean, torch.zeros(1, n).double(), torch.ones(n).double())


def linear_problem(seed, step):
    """Return rows, entries at the truth, and limits of a random linear problem."""
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randn(N, M, generator=draw, dtype=torch.float64) / N**0.5
    truth = torch.randn(N, generator=draw, dtype=torch.float64)
    made = truth @ rows + torch.randn(M, generator=draw, dtype=torch.float64)
    if step:
        level = (made / step).round()
        limits = (level - 0.5) * step, (level + 0.5) * step
    else:
        zero, end = torch.zeros_like(made), torch.full_like(made, torch.inf)
        limits = torch.where(made > 0, zero, -end), torch.where(made > 0, end, zero)
    return rows, truth, Distances(limits[0] - made, limits[1] - made)


def fitted(rows, truth, seen, prior):
    """Return the error of Newton's steps at the self-consistent noise, in any one problem."""
    floor = torch.full((M,), 1e-9, dtype=torch.float64)
    noise = prior_noise(rows, floor, prior)
    off = -truth
    for _ in range(25):
        at = seen.shifted(off @ rows)
        precision = precision_of(rows, at.weights(noise), prior)
        factor = torch.linalg.cholesky(precision)
        slope = rows @ at.slope(noise) - (truth + off)
        off = off + torch.cholesky_solve(slope[:, None], factor)[:, 0]
        noise = variance_of(rows, factor).sqrt().maximum(0.3 * noise)
    return float(off.square().mean())


@pytest.mark.parametrize("step", [0.0, 0.5], ids=["signs", "levels"])
def test_the_posterior_has_the_variance_that_errors_have(step):
    """That of the bound lies below it, and a dB or two is all that they differ by."""
    prior, floor = standard_prior(), torch.full((M,), 1e-9, dtype=torch.float64)
    errors, expected, least = [], [], []
    for seed in range(8):
        rows, truth, seen = linear_problem(seed, step)
        noise = prior_noise(rows, floor, prior)
        errors.append(fitted(rows, truth, seen, prior))
        for found, share in ((expected, 1.0), (least, 0.5)):
            precision, _ = self_consistent(rows, seen, noise, floor, prior, share)
            found.append(float(torch.linalg.inv(precision).diagonal().mean()))
    mean = [sum(values) / len(values) for values in (errors, expected, least)]
    assert abs(10 * math.log10(mean[1] / mean[0])) < 2
    assert -4 < 10 * math.log10(mean[2] / mean[0]) < 0.5
    assert mean[1] < 0.02  # a prior alone leaves 1


def test_where_noise_drowns_the_levels_it_is_the_gaussian_posterior():
    prior, floor = standard_prior(), torch.full((M,), 3.0, dtype=torch.float64)
    rows, _, seen = linear_problem(1, 0.01)
    precision, noise = self_consistent(rows, seen, prior_noise(rows, floor, prior), floor, prior)
    exact = (rows / noise.square()) @ rows.T + torch.eye(N).double()
    torch.testing.assert_close(precision, exact, rtol=1e-3, atol=1e-3)
    assert float(noise.min()) >= 3.0


def test_the_variance_of_entries_is_the_quadratic_form():
    rows, _, seen = linear_problem(2, 0.0)
    prior = standard_prior()
    precision = precision_of(rows, seen.weights(torch.ones(M).double()), prior)
    covariance = torch.linalg.inv(precision)
    exact = torch.einsum("im,ij,jm->m", rows, covariance, rows)
    torch.testing.assert_close(variance_of(rows, torch.linalg.cholesky(precision)), exact)


@pytest.mark.parametrize("true", [0.01, 0.3, 4.0])
def test_the_likeliest_noise_is_the_one_simulated(true):
    draw = torch.Generator().manual_seed(3)
    made = torch.randn(40_000, generator=draw, dtype=torch.float64)
    noisy = made + true * torch.randn(40_000, generator=draw, dtype=torch.float64)
    end = torch.full_like(made, torch.inf)
    zero = torch.zeros_like(made)
    seen = Distances(
        torch.where(noisy > 0, zero, -end) - made, torch.where(noisy > 0, end, zero) - made
    )
    assert likeliest_factor(seen, torch.ones_like(made)) == pytest.approx(true, rel=0.1)
    values = Distances(noisy - made, noisy - made)
    assert likeliest_factor(values, torch.ones_like(made)) == pytest.approx(true, rel=0.05)


def test_folding_mirrors_entries_into_their_limits():
    end = math.inf
    low = torch.tensor([0.5, -0.2, -end, -1.0, 0.3, -2.0]).double()
    high = torch.tensor([end, end, -0.1, 3.0, 1.3, -1.0]).double()
    found = Distances(low, high).folded()
    assert bool((found.lower <= 0).all())
    assert bool((found.upper >= 0).all())
    torch.testing.assert_close(
        found.lower, torch.tensor([-0.5, -0.2, -end, -1.0, -0.3, 0.0]).double()
    )
    torch.testing.assert_close(found.upper, torch.tensor([end, end, 0.1, 3.0, 0.7, 1.0]).double())


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_the_true_update_lies_within_the_limits_told(bits, decay, tiny_net, update):
    model = tiny_net(seed=1)
    images = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    recipe = TrainingRecipe(lr=0.1, batch_size=1, weight_decay=decay)
    seen = update(model, images, torch.tensor([1]), recipe)
    draw = torch.Generator().manual_seed(0)
    sent = dataclasses.replace(
        seen, returned=Quantised(bits=bits).release(seen.sent, seen.returned, generator=draw)
    )
    threat = ThreatModel(channel=Quantised(bits=bits).channel(sent))
    problem = build_problem(sent, threat, model, image_shape=(1, 8, 8), dtype=torch.float64)
    assert has_intervals(problem)
    assert gradient_intervals(problem).keys() == problem.gradient.keys()
    equations = IntervalEquations(problem, problem.targets(torch.tensor([1])))
    at = equations.distances(images.double())
    assert float((at.excess / equations.floor).max()) < 10
    assert equations.misfit(images.double()) < 0.1 * equations.misfit(1 - images.double())
