from __future__ import annotations

import pytest
import torch

from adversary.optim.levenberg_marquardt import DescentOptions, Iterate, LevenbergMarquardt
from adversary.optim.prior_terms import GaussianTerm, NoPriorTerm
from adversary.optim.quadratic_models import DenseModel
from adversary.optim.search import Limits, Search
from adversary.priors.smooth import smooth_prior


class Cubic:
    """r(x) = A (x + x^3) - b in units of sigma, with the interface of residuals."""

    def __init__(self, truth, equations, sigma, cubic=1.0, seed=0):
        draw = torch.Generator().manual_seed(seed)
        n = truth.numel()
        self.shape, self.cubic = truth.shape, cubic
        self.A = torch.randn(equations, n, generator=draw, dtype=torch.float64) / sigma
        noise = torch.randn(equations, generator=draw, dtype=torch.float64)
        self.b = self.A @ self._powers(truth.flatten()) + noise

    def _powers(self, x):
        return x + self.cubic * x**3

    def __call__(self, x):
        return self.A @ self._powers(x.flatten()) - self.b

    def _slope(self, x):
        return 1 + 3 * self.cubic * x.flatten() ** 2

    def rows(self, x, chunk):
        return self.A.T * self._slope(x)[:, None]

    def bend(self, x, v):
        return self.A @ (6 * self.cubic * x.flatten() * v.flatten() ** 2)

    def pullback(self, x):
        return lambda u: self._slope(x) * (self.A.T @ u)


class Rounded(Cubic):
    """As worked out with an error of so many sigma, another one each time."""

    error = 0.0

    def __call__(self, x):
        self.error *= -1
        return super().__call__(x) + self.error


def truth_of(seed=0):
    draw = torch.Generator().manual_seed(seed)
    return smooth_prior((1, 4, 4)).sample(2, generator=draw)


def run(equations, penalty, start, limits=None):
    search = Search("test", 0, limits or Limits())
    residual = equations(start)
    place = Iterate(start, residual, float(residual.square().mean()))
    return descent(equations, penalty, search).minimise(place), search


def descent(equations, penalty, search, iterations=30):
    options = DescentOptions(iterations=iterations)
    return LevenbergMarquardt(equations, penalty, DenseModel, search, options)


@pytest.mark.parametrize("sigma", [1e-6, 1e-2, 1.0])
def test_of_a_linear_model_it_finds_the_closed_form_of_the_posterior_mean(sigma):
    prior = smooth_prior((1, 4, 4))
    equations = Cubic(truth_of(), 20, sigma, cubic=0.0)  # fewer equations than pixels
    place, _ = run(equations, GaussianTerm(prior), torch.full((2, 1, 4, 4), 0.5).double())
    P = torch.block_diag(*[torch.linalg.inv(prior.covariance())] * 2)
    A, mu = equations.A, torch.full((32,), 0.5, dtype=torch.float64)
    exact = mu + torch.linalg.solve(A.T @ A + P, A.T @ (equations.b - A @ mu))
    assert place.settled
    torch.testing.assert_close(place.images.flatten(), exact, rtol=0, atol=0.03)


@pytest.mark.parametrize("seed", range(3))
def test_of_a_nonlinear_model_it_comes_down_to_the_noise(seed):
    truth = truth_of(seed)
    equations = Cubic(truth, 80, 1e-5, seed=seed)
    place, search = run(equations, NoPriorTerm(), torch.full((2, 1, 4, 4), 0.5).double())
    assert place.settled
    assert 0.2 < place.chi_square < 2
    torch.testing.assert_close(place.images, truth, rtol=0, atol=1e-4)
    scores = [step.score for step in search.history]
    assert scores[-1] < 1e-6 * scores[0]


def test_no_damping_is_tried_where_only_rounding_is_left():
    equations = Rounded(truth_of(), 80, 1e-5, cubic=0.0)
    place, _ = run(equations, NoPriorTerm(), torch.full((2, 1, 4, 4), 0.5).double())
    equations.error = 1.0
    both = equations(place.images), equations(place.images)
    place.residual = min(both, key=torch.linalg.norm)
    search = Search("test", 0, Limits())
    after = descent(equations, NoPriorTerm(), search).minimise(place)
    assert after.settled
    assert search.evaluations <= 2 * (place.images.numel() + 4)


def test_it_ends_where_the_misfit_no_longer_falls():
    """Of what no image explains the noise is never taken for small, and steps lead nowhere."""
    equations = Cubic(truth_of(), 80, 1e-5)
    off = torch.randn(80, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    equations.b = equations.b + 1e4 * off
    start = torch.full((2, 1, 4, 4), 0.5).double()
    place, search = run(equations, GaussianTerm(smooth_prior((1, 4, 4))), start)
    assert place.temperature > 1e3
    assert search.stopped == "iterations"
    assert len(search.history) < 25


def test_limits_are_kept():
    equations = Cubic(truth_of(), 80, 1e-5)
    start = torch.full((2, 1, 4, 4), 0.5).double()
    place, search = run(equations, NoPriorTerm(), start, limits=Limits(evaluations=1))
    assert search.stopped == "evaluations"
    assert len(search.history) == 2
    assert not place.settled


@pytest.mark.parametrize("seed", range(3))
def test_the_assumed_noise_falls_to_the_true_one(seed):
    start = torch.full((2, 1, 4, 4), 0.5).double()
    equations = Cubic(truth_of(seed), 80, 1e-5, seed=seed)
    residual = equations(start)
    place = Iterate(start, residual, float(residual.square().mean()))
    search, temperatures = Search("test", 0, Limits()), [place.temperature]
    while not place.settled:
        prior = GaussianTerm(smooth_prior((1, 4, 4)))
        place = descent(equations, prior, search, iterations=1).minimise(place)
        temperatures.append(place.temperature)
    assert temperatures == sorted(temperatures, reverse=True)
    assert temperatures[-1] == 1


def test_noise_is_never_taken_for_less_than_it_is():
    assert Iterate(torch.zeros(1), torch.full((4,), 0.1), 0.01).temperature == 1
    assert Iterate(torch.zeros(1), torch.full((4,), 0.1), 25.0).temperature == 25
