"""The posterior of limits where they are values, or noise drowns them: known in closed form."""

from __future__ import annotations

import pytest
import torch

from adversary.attacks.certificates import interval_posterior
from adversary.priors.gaussian import GaussianPrior
from adversary.problem.interval_equations import Distances

N, M = 24, 1500
NOISE = 3.0  # of an entry, of which images make a deviation of about one


def prior():
    mean = torch.full((1, 1, 4, 6), 0.5, dtype=torch.float64)
    return GaussianPrior(mean, torch.zeros(1, N).double(), torch.full((N,), 0.05**2).double())


class Linear:
    """Entries that are linear in the images, each known to lie within a width."""

    def __init__(self, seed, *, noise=NOISE, width=0.0):
        draw = torch.Generator().manual_seed(seed)
        self.matrix = torch.randn(N, M, generator=draw, dtype=torch.float64) / (0.05 * N**0.5)
        images = prior().sample(1, generator=draw).flatten()
        self.entries = images @ self.matrix
        self.entries += noise * torch.randn(M, generator=draw, dtype=torch.float64)
        self.width = width
        self.floor = torch.full((M,), NOISE, dtype=torch.float64)

    def rows(self, images):
        return self.matrix

    def distances(self, images):
        off = self.entries - images.flatten() @ self.matrix
        return Distances(off - self.width / 2, off + self.width / 2)

    def most_probable(self):
        """Return the covariance and the mean of the posterior of noisy values."""
        covariance = torch.linalg.inv(self.matrix @ self.matrix.T / NOISE**2 + prior().precision())
        off = self.entries - prior().mean.flatten() @ self.matrix
        step = covariance @ (self.matrix @ off) / NOISE**2
        return covariance, prior().mean + step.view_as(prior().mean)


@pytest.mark.parametrize("width", [0.0, 0.1])
def test_where_noise_is_all_it_is_the_gaussian_posterior(width):
    equations = Linear(0, width=width)
    covariance, images = equations.most_probable()
    found, fit = interval_posterior(equations, images, prior(), 0)
    assert found.settled
    assert fit.explained
    torch.testing.assert_close(found.images, images)
    torch.testing.assert_close(found.variance.flatten(), covariance.diagonal(), rtol=0.05, atol=0)
    known = prior().precision()
    told = N - float((covariance * known).sum())
    assert found.parameters == pytest.approx(told, rel=0.02)
    decided = float((covariance @ known @ covariance).trace() / covariance.trace())
    assert found.by_prior == pytest.approx(decided, rel=0.05)
    freedom = float(covariance.trace().square() / covariance.square().sum())
    assert found.freedom.tolist() == pytest.approx([freedom], rel=0.05)
    assert found.curvature == pytest.approx(0, abs=1e-9)


def test_an_estimate_from_which_the_next_step_leads_away_is_not_settled():
    equations = Linear(1)
    covariance, images = equations.most_probable()
    deviation = covariance.diagonal().sqrt().view_as(images)
    assert not interval_posterior(equations, images + deviation, prior(), 0)[0].settled


@pytest.mark.parametrize(("size", "explained"), [(1.0, True), (1.3, True), (1.6, False)])
def test_the_misfit_is_a_variance_beside_that_of_the_noise(size, explained):
    equations = Linear(2, noise=size * NOISE)
    _, images = equations.most_probable()
    _, fit = interval_posterior(equations, images, prior(), 0)
    assert fit.chi_square == pytest.approx(size**2, rel=0.1)
    assert fit.explained is explained
