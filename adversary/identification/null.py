"""From scores to statements: p-values against a null, names at a false discovery rate.

The null are public X-rays that are scored like candidates and known not to be in the update. Their
scores are taken to be normal, with a mean and deviation of their own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import scipy
import torch
from torch import Tensor

from adversary.common.errors import UserError

FEWEST = 20
"""Null candidates below which no deviation is estimated."""

NULL_SHARE = 0.4
"""Share of the public X-rays that is held back for the null."""


class NullError(UserError, ValueError):
    """A null that cannot be had; one line."""


def held_back(public: int) -> int:
    """Return how many of the public X-rays are the null."""
    return round(NULL_SHARE * public)


def check(null: int) -> None:
    """Raise :class:`NullError` where there are too few null candidates."""
    if null < FEWEST:
        raise NullError(
            f"{null} public X-rays are left for the null; must be at least {FEWEST}, so take a "
            f"data.public of {math.ceil(FEWEST / NULL_SHARE)} or more"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """Scores of candidates and of the null, in standard deviations of the latter from its mean.

    Parameters
    ----------
    values, expected : Tensor
        (N,), float64, of candidates, and what they would be of members if the model is right.
    null, null_expected : Tensor
        (M,), of public X-rays that were not in it.
    """

    values: Tensor
    expected: Tensor
    null: Tensor
    null_expected: Tensor

    def __len__(self) -> int:
        return len(self.values)


def standardised(scores: Tensor, expected: Tensor, candidates: int) -> Scores:
    """Return scores in units of the null.

    Parameters
    ----------
    scores, expected : Tensor
        (N + M,), of candidates and then of the null, and what they would be of members.
    candidates : int
        N.
    """
    scores, expected = scores.double(), expected.double()
    null = scores[candidates:]
    check(len(null))
    unit = null.std().clamp_min(1e-300)
    scores, expected = (scores - null.mean()) / unit, expected / unit
    return Scores(
        values=scores[:candidates],
        expected=expected[:candidates],
        null=scores[candidates:],
        null_expected=expected[candidates:],
    )


def p_values(standard: Tensor, null: int) -> Tensor:
    """Return the probability of such a score or a higher one of someone who is not in it.

    Exact for normal scores: mean and deviation were estimated from ``null`` others, hence a t
    distribution.

    Parameters
    ----------
    standard : Tensor
        (N,), of :func:`standardised`.
    null : int
        Null candidates.
    """
    predicted = standard.double() / math.sqrt(1 + 1 / null)
    return torch.from_numpy(scipy.stats.t.sf(predicted.numpy(), null - 1))


def named(p_values: Tensor, rate: float = 0.05) -> Tensor:
    """Return who can be named, (N,) bool, with a false discovery rate of at most ``rate``.

    Benjamini and Hochberg, "Controlling the false discovery rate", 1995.
    """
    order = p_values.argsort()
    steps = rate * torch.arange(1, len(p_values) + 1, dtype=torch.float64) / len(p_values)
    below = (p_values[order] <= steps).nonzero()
    found = torch.zeros(len(p_values), dtype=torch.bool)
    if len(below):
        found[order[: int(below[-1]) + 1]] = True
    return found
