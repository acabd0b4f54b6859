from __future__ import annotations

import pytest
import torch

from adversary.identification import null


@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_a_low_score_is_no_sign_of_membership_however_members_scatter(rate):
    draws = torch.Generator().manual_seed(0)
    scores = torch.randn(4000, generator=draws).double()
    member = torch.rand(4000, generator=draws) < rate
    scores[member] = 1.0 + 4.0 * scores[member]
    assert null.member_scores(scores, rate)[1] > 2
    found = null.posteriors(scores, rate)
    low = scores < 0
    assert float(scores.min()) < -6  # beyond what the null ever gives
    assert float(found[low].max()) <= rate
    assert float(found[scores > 6].min()) > 0.9
