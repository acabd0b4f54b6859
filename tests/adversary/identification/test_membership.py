from __future__ import annotations

import pytest
import torch
from scipy import stats

from adversary.identification import figures
from adversary.identification.joining import joined
from adversary.identification.membership import (
    LEAST_MEAN,
    Members,
    fitted,
    log_ratios,
    posteriors,
)
from adversary.identification.null import Scores


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


def said(scores, expected, null):
    return Scores(values=scores, expected=expected, null=null, null_expected=expected[: len(null)])


def test_joining_gives_a_silent_round_no_weight():
    draws = torch.Generator().manual_seed(0)
    member = torch.arange(400) < 200
    telling, silent = torch.randn(2, 400, generator=draws).double()
    telling[member] += 3.0
    others = torch.randn(3, 300, generator=draws).double()
    three, little = torch.full((400,), 3.0).double(), torch.full((400,), 0.05).double()
    alone = ranked(telling, member)
    both = joined([said(telling, three, others[0]), said(silent, little, others[1])], 0.5)
    assert ranked(both.values, member) >= alone - 1e-3
    second = torch.randn(400, generator=draws).double() + 3.0 * member
    both = joined([said(telling, three, others[0]), said(second, three, others[2])], 0.5)
    assert ranked(both.values, member) > alone + 5e-3
    assert float(both.null.std()) == pytest.approx(1.0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_joined_rounds_know_of_whom_each_tells(seed):
    """Of half the gallery one round tells, of the other half another; joined, both count whole."""
    draws = torch.Generator().manual_seed(seed)
    member, first = torch.arange(800) < 400, torch.arange(800) % 2 == 0
    expected = [torch.where(own, 3.0, 0.0).double() for own in (first, ~first)]
    rounds = [
        said(
            torch.randn(800, generator=draws).double() + member * own, own,
            torch.randn(500, generator=draws).double(),
        )
        for own in expected
    ]  # fmt: skip
    both = joined(rounds, 0.5)
    best = torch.where(first, rounds[0].values, rounds[1].values)
    assert ranked(both.values, member) == pytest.approx(ranked(best, member), abs=0.01)
    assert float(both.expected.mean()) == pytest.approx(3.0, rel=0.15)
