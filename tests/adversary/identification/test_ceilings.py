"""Trade-off curves beside what they must be."""

from __future__ import annotations

import itertools
import math

import pytest

from adversary.identification import ceilings


@pytest.mark.parametrize(("epsilon", "delta"), [(0.1, 0.2), (1.0, 0.0), (1.0, 0.05), (3.0, 1e-5)])
@pytest.mark.parametrize("alarms", [1e-3, 0.1, 0.4, 0.7])
def test_the_trade_off_is_symmetric_and_reached_by_a_mechanism(epsilon, delta, alarms):
    """Whom to call in and whom to call out are one question (Dong, Roth and Su 2022).

    The mechanism gives itself away with probability delta, and else answers at random.
    """
    power = ceilings.private_power(epsilon, delta, alarms)
    misses = 1 - power
    assert power == 1 or 1 - ceilings.private_power(epsilon, delta, misses) == pytest.approx(alarms)
    right = math.exp(epsilon) / (1 + math.exp(epsilon))
    rates = [  # of saying "in": where it is certain, or also where it seems so, or unless certain
        (0.0, delta),
        ((1 - delta) * (1 - right), delta + (1 - delta) * right),
        (1 - delta, 1.0),
    ]
    for (a, p), (b, q) in itertools.pairwise(rates):
        if a <= alarms <= b:
            assert power == pytest.approx(p + (q - p) * (alarms - a) / (b - a))
