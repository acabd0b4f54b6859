from __future__ import annotations

import pytest
import torch
from scipy import stats

from adversary.identification import figures
from adversary.identification.membership import (
    LEAST_MEAN,
    Members,
    fitted,
    log_ratios,
    posteriors,
)


def gallery(seed, size=4000, rate=0.3, mean=1.0, spread=0.3):
    """Return who is a member, scores, and what is expected of each, over three decades."""
    draws = torch.Generator().manual_seed(seed)
    expected = 10 ** (3 * torch.rand(size, generator=draws).double() - 1.5)
    member = torch.rand(size, generator=draws) < rate
    scores = torch.randn(size, generator=draws).double()
    own = mean + spread * torch.randn(size, generator=draws).double()
    return member, scores + member * own * expected, expected


def ranked(values, member):
    return figures.auc(values[member], values[~member])


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("mean", "spread"), [(1.0, 0.3), (0.6, 0.1), (1.5, 1.0)])
def test_what_members_are_like_is_found(seed, mean, spread):
    _, scores, expected = gallery(seed, mean=mean, spread=spread)
    found = fitted(scores, expected, 0.3)
    assert found.mean == pytest.approx(mean, abs=0.05 + 4 * found.error)
    assert found.spread == pytest.approx(spread, rel=0.2)


@pytest.mark.parametrize(("mean", "spread"), [(1.0, 0.3), (0.5, 0.0)])
def test_log_ratios_are_those_of_two_normal_distributions(mean, spread):
    expected = torch.tensor([0.1, 1.0, 3.0, 10.0]).double()
    scores = torch.tensor([1.0, -0.1, 2.0, 9.0]).double()
    found = log_ratios(scores, expected, Members(mean, spread))
    deviation = (1 + (spread * expected).square()).sqrt()
    own = stats.norm.logpdf(scores, mean * expected, deviation)
    torch.testing.assert_close(found, torch.from_numpy(own - stats.norm.logpdf(scores)))


def test_a_lower_score_never_counts_for_more():
    scores = torch.linspace(-300, 300, 2001).double()
    for expected in (0.01, 0.5, 3.0, 60.0):
        found = log_ratios(scores, torch.full_like(scores, expected), Members(1.0, 0.5))
        assert bool((found.diff() >= -1e-12).all())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_they_rank_better_than_scores_where_candidates_differ(seed):
    member, scores, expected = gallery(seed)
    ratios = log_ratios(scores, expected, fitted(scores, expected, 0.3))
    assert ranked(ratios, member) > ranked(scores, member) + 0.02
    # As well as with what members are really like.
    best = log_ratios(scores, expected, Members(1.0, 0.3))
    assert ranked(ratios, member) == pytest.approx(ranked(best, member), abs=0.005)


def test_where_all_are_expected_alike_the_order_is_that_of_scores():
    scores = torch.linspace(0.0, 5.0, 50).double()
    expected = torch.full((50,), 2.0).double()
    found = log_ratios(scores, expected, fitted(scores, expected, 0.5))
    assert bool((found.diff() > 0).all())


def test_posteriors_are_calibrated():
    member, scores, expected = gallery(0, size=20000)
    found = posteriors(scores, expected, 0.3)
    for low, high in ((0.0, 0.05), (0.2, 0.8), (0.9, 1.0)):
        some = (found >= low) & (found <= high)
        said = float(found[some].mean())
        assert float(member[some].double().mean()) == pytest.approx(said, abs=0.03)
    assert float(found.mean()) == pytest.approx(0.3, abs=0.02)


def test_where_nobody_is_found_the_mean_has_its_floor_and_scores_still_rank():
    scores = -torch.linspace(1, 2, 100).double()
    found = fitted(scores, torch.ones(100).double(), 0.5)
    assert found.mean == LEAST_MEAN
    assert bool(torch.isfinite(log_ratios(scores, torch.ones(100), found)).all())


@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_a_low_score_is_no_sign_of_membership_however_members_scatter(rate):
    draws = torch.Generator().manual_seed(0)
    scores = torch.randn(4000, generator=draws).double()
    member = torch.rand(4000, generator=draws) < rate
    scores[member] = 1.0 + 4.0 * scores[member]
    ones = torch.ones(4000).double()
    assert fitted(scores, ones, rate).spread > 1.7
    found = posteriors(scores, ones, rate)
    low = scores < 0
    assert float(scores.min()) < -6  # beyond what the null ever gives
    assert float(found[low].max()) <= rate
    assert float(found[scores > 6].min()) > 0.9
