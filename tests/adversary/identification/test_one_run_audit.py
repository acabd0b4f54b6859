"""Limits of epsilon from guesses are those of the paper, hold, and find wrong accounts."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from adversary.identification.ceilings import gaussian_mu
from adversary.identification.one_run_audit import (
    AuditError,
    audited,
    fair_coins,
    one_run_epsilon,
    p_value,
)


def of_the_paper(m, r, v, eps, delta):
    """Appendix D of Steinke, Nasr and Jagielski, as it is printed there."""
    q = 1 / (1 + math.exp(-eps))
    beta = stats.binom.sf(v - 1, r, q)
    alpha, total = 0.0, 0.0
    for i in range(1, v + 1):
        total += stats.binom.pmf(v - i, r, q)
        alpha = max(alpha, total / i)
    return min(beta + alpha * delta * 2 * m, 1)


@pytest.mark.parametrize("case", [(100, 50, 40), (1000, 1000, 600), (30, 30, 30), (10, 5, 0)])
@pytest.mark.parametrize(("epsilon", "delta"), [(0.0, 0.0), (1.0, 1e-5), (4.0, 1e-3)])
def test_p_values_are_those_of_the_paper(case, epsilon, delta):
    assert p_value(*case, epsilon, delta) == pytest.approx(of_the_paper(*case, epsilon, delta))


def test_the_limit_is_where_the_p_value_crosses():
    found = one_run_epsilon(1000, 200, 170, 1e-5)
    assert p_value(1000, 200, 170, found, 1e-5) == pytest.approx(0.05, rel=1e-6)
    assert one_run_epsilon(1000, 200, 105, 1e-5) == 0.0
    all_right = one_run_epsilon(100, 100, 100, 0.0)  # q^100 = .05
    assert all_right == pytest.approx(-math.log(0.05 ** (-1 / 100) - 1))


def randomised_response(epsilon, canaries, draws):
    inside = fair_coins(canaries, draws)
    right = torch.rand(canaries, generator=draws) < 1 / (1 + math.exp(-epsilon))
    return torch.where(inside == right, 1.0, -1.0), inside


def test_a_true_account_is_rarely_refuted_and_nearly_reached():
    draws = torch.Generator().manual_seed(0)
    found = [
        audited(*randomised_response(1.0, 2000, draws), epsilon=1.0, delta=1e-6) for _ in range(100)
    ]
    assert sum(one.is_wrong for one in found) <= 9  # 5 % of 100, and its own spread
    assert sum(one.epsilon_lower for one in found) / 100 > 0.75


def gaussian(epsilon, short_by, draws, canaries=2000):
    """Canaries of length 1, with noise for a sensitivity that is short by a factor."""
    inside = fair_coins(canaries, draws)
    noise = short_by / gaussian_mu(epsilon, 1e-5)
    seen = inside.double() + noise * torch.randn(canaries, generator=draws).double()
    return audited(seen - 0.5, inside, epsilon=epsilon, delta=1e-5)


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 3.0])
def test_noise_for_too_small_a_sensitivity_is_found(epsilon):
    draws = torch.Generator().manual_seed(1)
    assert not any(gaussian(epsilon, 1.0, draws).is_wrong for _ in range(5))
    assert all(gaussian(epsilon, 0.2, draws).is_wrong for _ in range(5))


@pytest.mark.parametrize("level", [0.95, 0.99])
def test_each_of_four_numbers_of_guesses_has_a_quarter_of_the_error(level):
    """All coins that are guessed first are right: it is what the best number of them proves."""
    inside = torch.arange(100) % 2 == 0
    scores = torch.where(inside, 1.0, -1.0) * torch.arange(100, 0, -1)
    scores[30:] *= -1  # the others are all wrong
    found = audited(scores, inside, epsilon=1.0, delta=1e-5, level=level)
    each = 1 - (1 - level) / 4
    assert (found.guesses, found.correct) == (30, 30)
    assert found.epsilon_lower == pytest.approx(one_run_epsilon(100, 30, 30, 1e-5, each))


def test_it_is_said_in_a_sentence():
    draws = torch.Generator().manual_seed(2)
    assert gaussian(1.0, 0.1, draws).words.startswith("WRONG: epsilon 1 is claimed at delta 1e-05")
    assert gaussian(1.0, 1.0, draws).words.startswith("not refuted: epsilon 1")


def test_no_canary_is_refused():
    with pytest.raises(AuditError, match="there is no canary"):
        audited(torch.zeros(0), torch.zeros(0, dtype=torch.bool), epsilon=1.0, delta=1e-5)
