"""The likelihood of an interval against scipy, autograd and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from adversary.problem.interval_likelihood import (
    expected_information,
    information,
    log_probability,
    score,
)

CASES = [
    (-math.inf, 0.3),
    (-0.7, math.inf),
    (-1.0, 0.5),
    (2.0, 2.5),
    (-9.0, -8.0),
    (6.0, math.inf),
    (-0.001, 0.002),
    (-math.inf, math.inf),
]


def pair(lower, upper):
    return torch.tensor([lower], dtype=torch.float64), torch.tensor([upper], dtype=torch.float64)


@pytest.mark.parametrize(("lower", "upper"), CASES)
def test_the_probability_is_that_of_scipy(lower, upper):
    expected = (
        norm.logsf(lower)
        if math.isinf(upper)
        else math.log(norm.sf(lower) - norm.sf(upper))
        if lower > 0
        else math.log(norm.cdf(upper) - norm.cdf(lower))
    )
    assert float(log_probability(*pair(lower, upper))) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("lower", "upper"), CASES)
def test_score_and_information_are_the_derivatives(lower, upper):
    def log_p(g):
        return log_probability(*pair(lower - g, upper - g)).item()

    h = 1e-4
    first = (log_p(h) - log_p(-h)) / (2 * h)
    second = (log_p(h) - 2 * log_p(0.0) + log_p(-h)) / h**2
    assert float(score(*pair(lower, upper))) == pytest.approx(first, rel=1e-5, abs=1e-7)
    assert float(information(*pair(lower, upper))) == pytest.approx(-second, rel=1e-4, abs=1e-5)


def test_the_score_is_that_of_autograd():
    g = torch.linspace(-3, 3, 13, dtype=torch.float64, requires_grad=True)
    lower, upper = torch.full_like(g, -0.4).detach(), torch.full_like(g, 1.1).detach()
    mass = torch.special.ndtr(upper - g) - torch.special.ndtr(lower - g)
    (expected,) = torch.autograd.grad(mass.log().sum(), g)
    torch.testing.assert_close(score(lower - g.detach(), upper - g.detach()), expected)


@pytest.mark.parametrize("distance", [0.5, 30.0, 1e4])
def test_far_beyond_a_limit_it_is_a_quadratic(distance):
    low, high = pair(distance, math.inf)
    assert float(score(low, high)) == pytest.approx(distance, rel=2 / distance)
    assert 0 <= float(information(low, high)) <= 1
    assert math.isfinite(float(log_probability(low, high)))


def test_a_value_has_the_density():
    low, high = pair(0.8, 0.8)
    assert float(log_probability(low, high)) == pytest.approx(norm.logpdf(0.8))
    assert float(score(low, high)) == pytest.approx(0.8)
    assert float(information(low, high)) == 1


@pytest.mark.parametrize("step", [0.3, 1.0, 4.0])
def test_over_all_levels_score_squared_and_information_are_equal_on_average(step):
    """Bartlett's identity: the Fisher information of a level, either way."""
    edges = torch.arange(-60, 61, dtype=torch.float64) * step + 0.2 * step
    low, high = edges[:-1], edges[1:]
    p = log_probability(low, high).exp()
    assert float(p.sum()) == pytest.approx(1)
    by_score, by_bend = (p * score(low, high).square()).sum(), (p * information(low, high)).sum()
    assert float(by_score) == pytest.approx(float(by_bend), rel=1e-9)


@pytest.mark.parametrize(("lower", "upper"), [(-0.7, math.inf), (-1.0, 0.5), (-3.0, 4.0)])
def test_the_expected_information_is_the_integral(lower, upper):
    def integrand(v):
        return norm.pdf(v) * float(information(*pair(lower - v, upper - v)))

    exact = quad(integrand, -9, 9)[0]
    assert float(expected_information(*pair(lower, upper))) == pytest.approx(exact, rel=0.02)


def test_simulated_signs_have_the_likelihood():
    draw = np.random.default_rng(1)
    g = 0.6
    share = float((g + draw.standard_normal(200_000) > 0).mean())
    p = float(log_probability(*pair(-g, math.inf)).exp())
    assert share == pytest.approx(p, abs=0.005)
