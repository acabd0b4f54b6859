from __future__ import annotations

import pytest
import torch

from adversary.identification import figures
from adversary.identification.joining import joined
from adversary.identification.null import Scores, standardised

MEMBERS = torch.arange(400) < 200


def scores(seed, members=0.0, expected=3.0):
    """Return a round's scores of 400 candidates, half of them members, and of the null."""
    draws = torch.Generator().manual_seed(seed)
    expected = torch.as_tensor(expected).double().expand(400)
    return Scores(
        values=torch.randn(400, generator=draws).double() + members * MEMBERS,
        expected=expected,
        null=torch.randn(300, generator=draws).double(),
        null_expected=expected[:300],
    )


def again(values, null):
    """Return values in units of the null."""
    ones = torch.ones(len(values) + len(null))
    return standardised(torch.cat([values, null]), ones, len(values))


def test_a_round_of_nothing_but_noise_has_no_part_in_the_sum():
    """Whatever was expected of it, as long as its mean is what chance makes of it."""
    alone = 0
    for seed in range(20):
        telling, silent = scores(seed, 3.0), scores(100 + seed)
        both = joined([telling, silent], 0.5)
        theirs = again(telling.values, telling.null)
        if torch.allclose(both.values, theirs.values, atol=1e-9):
            assert torch.allclose(both.null, theirs.null)
            alone += 1
    assert alone >= 18


def test_rounds_of_nothing_but_noise_count_alike():
    one, other = scores(0), scores(1)
    both = joined([one, other], 0.5)
    theirs = again(one.values + other.values, one.null + other.null)
    torch.testing.assert_close(both.values, theirs.values)


@pytest.mark.parametrize("seed", range(3))
def test_a_round_that_tells_more_weighs_more(seed):
    strong, weak = scores(seed, 4.0, 4.0), scores(50 + seed, 1.0, 1.0)
    both = joined([strong, weak], 0.5)
    own = [
        float(torch.corrcoef(torch.stack([both.values, one.values]))[0, 1])
        for one in (strong, weak)
    ]
    assert own[0] > 0.9
    assert own[1] < own[0] - 0.1


def test_two_rounds_that_tell_are_better_than_one():
    first, second = scores(0, 3.0), scores(1, 3.0)
    both = joined([first, second], 0.5)
    alone = figures.auc(first.values[MEMBERS], first.values[~MEMBERS])
    assert figures.auc(both.values[MEMBERS], both.values[~MEMBERS]) > alone + 5e-3
    assert float(both.null.std()) == pytest.approx(1.0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_each_round_counts_for_those_of_whom_it_tells(seed):
    """Of half the gallery one round tells, of the other half another."""
    first = torch.arange(400) % 2 == 0
    expected = [torch.where(own, 3.0, 0.0) for own in (first, ~first)]
    rounds = [scores(10 * seed + k, own, own) for k, own in enumerate(expected)]
    both = joined(rounds, 0.5)
    best = torch.where(first, rounds[0].values, rounds[1].values)
    assert figures.auc(both.values[MEMBERS], both.values[~MEMBERS]) == pytest.approx(
        figures.auc(best[MEMBERS], best[~MEMBERS]), abs=0.015
    )
    assert float(both.expected.mean()) == pytest.approx(3.0, rel=0.15)
