from __future__ import annotations

import pytest
import torch
from scipy import stats

from adversary.identification import figures


@pytest.mark.parametrize(
    ("members", "others", "alarms"), [(1, 200, 0.01), (5, 30, 0.1), (20, 50, 0.05)]
)
def test_chance_is_that_of_scores_in_random_order(members, others, alarms):
    draw = torch.Generator().manual_seed(members)
    hits = []
    for _ in range(2000):
        scores = torch.rand(members + others, generator=draw)
        rate = figures.power(scores[:members], scores[members:], alarms).rate
        hits.append(round(rate * members))
    for count in range(1, 4):
        expected = figures.chance(count, members, others, alarms) if count <= members else 0.0
        seen = sum(one >= count for one in hits)
        assert stats.binomtest(seen, 2000, expected or 1e-12).pvalue > 1e-3
    assert figures.chance(0, members, others, alarms) == 1.0


def test_chance_of_an_auc_is_that_of_mann_and_whitney():
    draw = torch.Generator().manual_seed(0)
    a, b = torch.randn(40, generator=draw) + 0.4, torch.randn(90, generator=draw)
    theirs = stats.mannwhitneyu(a, b, alternative="greater", use_continuity=False).pvalue
    assert figures.auc_chance(figures.auc(a, b), 40, 90) == pytest.approx(theirs, rel=1e-6)
    assert figures.auc_chance(None, 40, 90) == 1.0
