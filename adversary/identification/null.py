"""From scores to statements: p-values against a null, names at a false discovery rate, posteriors.

The null are public X-rays that are scored like candidates and known not to be in the update. Their
scores are taken to be normal, with a mean and deviation of their own.
"""

from __future__ import annotations

import math

import scipy
import torch
from torch import Tensor

from adversary.common.errors import UserError

FEWEST = 20
"""Null candidates below which no deviation is estimated."""

NULL_SHARE = 0.4
"""Share of the public X-rays that is held back for the null."""

ITERATIONS = 50


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


def standardised(scores: Tensor, null: Tensor) -> Tensor:
    """Return scores (N,) in standard deviations of the null (M,) from its mean."""
    check(len(null))
    null = null.double()
    return (scores.double() - null.mean()) / null.std().clamp_min(1e-300)


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


def member_scores(standard: Tensor, rate: float) -> tuple[float, float]:
    """Return mean and deviation of members' scores, a share ``rate`` of a gallery.

    By expectation and maximisation of a mixture with a standard normal null; the mean is at least
    0 and the deviation at least 1.
    """
    scores = standard.double()
    mean, deviation = max(0.5, float(scores.mean()) / rate), 1.0
    for _ in range(ITERATIONS):
        weights = _posterior(scores, rate, mean, deviation)
        total = float(weights.sum()) or 1e-300
        mean = max(0.0, float(weights @ scores) / total)
        deviation = max(1.0, math.sqrt(float(weights @ (scores - mean).square()) / total))
    return mean, deviation


def posteriors(standard: Tensor, rate: float) -> Tensor:
    """Return the probability that each candidate is in the update, (N,).

    Parameters
    ----------
    standard : Tensor
        (N,), of :func:`standardised`.
    rate : float
        Prior probability of a candidate, in (0, 1).
    """
    return _posterior(standard.double(), rate, *member_scores(standard, rate))


def _posterior(scores: Tensor, rate: float, mean: float, deviation: float) -> Tensor:
    apart = (scores - mean) / deviation
    odds = 0.5 * (scores.square() - apart.square()) - math.log(deviation)
    found = torch.sigmoid(odds + math.log(rate / (1 - rate)))
    # A wide mixture component must not make a low score a sign of membership.
    return torch.where(scores < 0, found.clamp(max=rate), found)
