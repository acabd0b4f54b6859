r"""From a candidate's score, and what it would be of a member, to the odds of membership.

The update tells much of some candidates and nothing of others: an image that the network has
learned adds nearly nothing. The same score is strong evidence for one and weak for another, and a
score near 0 rules out only those of whom much would be seen. What counts is the likelihood ratio of
each candidate by itself, as in LiRA (Carlini, Chien, Nasr, Song, Terzis and Tramer, "Membership
inference attacks from first principles", 2022). With e what is expected of a member, scores are
taken to be N(0, 1) of others and N(a e, 1 + (c e)^2) of members; a and c are fitted to the gallery.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

ITERATIONS = 50

FIRST_SPREAD, LEAST_SPREAD = 0.3, 0.01
"""What c is at first, and at least."""

LEAST_MEAN = 0.1
"""What a is at least: with 0 scores would say nothing."""


@dataclass(frozen=True)
class Members:
    """What members' scores are like, beside what is expected of each.

    Parameters
    ----------
    mean : float
        Their mean over what is expected; 1 if the model is right.
    spread : float
        Their standard deviation beside the null's, over what is expected.
    error : float
        Standard error of ``mean``.
    """

    mean: float
    spread: float
    error: float = 0.0

    def variance(self, expected: Tensor) -> Tensor:
        """Return the variances of members' scores of whom so much is expected."""
        return 1 + (self.spread * expected).square()


def fitted(scores: Tensor, expected: Tensor, rate: float) -> Members:
    """Return what members' scores are like, if a share ``rate`` of a gallery are members.

    By expectation and maximisation.

    Parameters
    ----------
    scores, expected : Tensor
        (N,), in standard deviations of the null, and what they would be of members, >= 0.
    rate : float
        In (0, 1).
    """
    scores, expected = scores.double(), expected.double()
    product, square = expected * scores, expected.square()
    begun = float(product.sum()) / rate / (float(square.sum()) or 1.0)
    found = Members(max(LEAST_MEAN, begun), FIRST_SPREAD)
    for _ in range(ITERATIONS):
        share = probability(log_ratios(scores, expected, found), rate)
        weights = share / found.variance(expected)
        known = float(weights @ square) or 1e-300
        mean = max(LEAST_MEAN, float(weights @ product) / known)
        weights = weights / found.variance(expected) * square
        beyond = (scores - mean * expected).square() - 1
        spread = float(weights @ beyond) / (float(weights @ square) or 1e-300)
        found = Members(mean, max(LEAST_SPREAD**2, spread) ** 0.5, known**-0.5)
    return found


def log_ratios(scores: Tensor, expected: Tensor, members: Members) -> Tensor:
    """Return the logarithm of each candidate's likelihood as a member over that as another, (N,).

    No lower score counts for more than a higher one of the same candidate, whatever the spread.

    Parameters
    ----------
    scores, expected : Tensor
        (N,), as of :func:`fitted`.
    members : Members
        From there.
    """
    expected = expected.double()
    mean, variance = members.mean * expected, members.variance(expected)
    turn = -mean / (variance - 1).clamp_min(1e-300)  # beyond it the wider distribution wins again
    scores = torch.maximum(scores.double(), turn)
    return 0.5 * (scores.square() - (scores - mean).square() / variance - variance.log())


def gallery_log_ratios(scores: Tensor, expected: Tensor, rate: float) -> Tensor:
    """Return :func:`log_ratios` with members as :func:`fitted` to the same gallery, (N,)."""
    return log_ratios(scores, expected, fitted(scores, expected, rate))


def posteriors(scores: Tensor, expected: Tensor, rate: float) -> Tensor:
    """Return the probability that each candidate is in the update, (N,).

    Parameters
    ----------
    scores, expected : Tensor
        (N,), as of :func:`fitted`.
    rate : float
        Prior probability of a candidate, in (0, 1).
    """
    return probability(gallery_log_ratios(scores, expected, rate), rate)


def probability(log_ratios: Tensor, rate: float) -> Tensor:
    """Return the probability of membership at a prior one, in (0, 1), and log likelihood ratios."""
    return torch.sigmoid(log_ratios + math.log(rate / (1 - rate)))
