from __future__ import annotations

import pytest
import torch

from adversary.identification.joining import joined
from adversary.identification.null import standardised


def scores(seed, members=0.0):
    """Return a round's scores of 400 candidates, half of them members, and of the null."""
    draws = torch.Generator().manual_seed(seed)
    shift = members * (torch.arange(400) < 200)
    return torch.randn(400, generator=draws).double() + shift, torch.randn(
        300, generator=draws
    ).double()


def test_a_round_of_nothing_but_noise_has_no_part_in_the_sum():
    """As long as its mean is what chance makes of it: nearly always."""
    alone = 0
    for seed in range(20):
        telling, silent = scores(seed, 3.0), scores(100 + seed)
        both, null = joined([telling, silent], 0.5)
        if torch.allclose(both, standardised(*telling), atol=1e-9):
            assert torch.allclose(null, standardised(telling[1], telling[1]))
            alone += 1
    assert alone >= 18


def test_rounds_of_nothing_but_noise_count_alike():
    rounds = [scores(seed) for seed in range(2)]
    both, _ = joined(rounds, 0.5)
    one, other = rounds
    torch.testing.assert_close(both, standardised(one[0] + other[0], one[1] + other[1]))


@pytest.mark.parametrize("seed", range(3))
def test_a_round_that_tells_more_weighs_more(seed):
    strong, weak = scores(seed, 4.0), scores(50 + seed, 1.0)
    both, _ = joined([strong, weak], 0.5)
    own = [float(torch.corrcoef(torch.stack([both, one[0]]))[0, 1]) for one in (strong, weak)]
    assert own[0] > 0.9
    assert own[1] < own[0] - 0.1
