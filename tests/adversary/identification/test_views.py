"""Views of what clients blend."""

from __future__ import annotations

import pytest
import torch
from scipy import integrate, stats

from adversary.identification.views import VIEWS, Views
from adversary.observation.channel import Channel


@pytest.mark.parametrize("alpha", [0.4, 1.0, 3.0])
def test_an_image_is_in_two_blends_whole_whatever_its_share(alpha):
    draws = torch.Generator().manual_seed(0)
    examples = torch.rand(3, 1, 2, 2, generator=draws), torch.eye(3)
    company = torch.zeros(5, 1, 2, 2), torch.zeros(5, 3)
    views = Views(Channel(blend=alpha), company)
    shares = []
    for blends in views.of(examples, 0, draws):
        (larger, _), (smaller, _) = blends
        for own, one, other in zip(examples, *blends, strict=True):
            torch.testing.assert_close(one + other, own)
        shares.append(float(larger.sum() / examples[0].sum()))
        assert shares[-1] >= 0.5
        torch.testing.assert_close(smaller, (1 - shares[-1]) * examples[0])
    assert len(shares) == VIEWS
    larger_half = 2 * integrate.quad(lambda x: x * stats.beta.pdf(x, alpha, alpha), 0.5, 1)[0]
    assert sum(shares) / VIEWS == pytest.approx(larger_half, abs=0.02)
