"""How well scores tell members from others, for scoring alone: it needs the truth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import scipy
import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Power:
    """A true positive rate at a false positive rate, with its exact 95 % interval.

    Parameters
    ----------
    rate, low, high : float
        In [0, 1]; Clopper and Pearson, 1934, over the members.
    """

    rate: float
    low: float
    high: float


def auc(members: Tensor, others: Tensor) -> float | None:
    """Return the area under the ROC curve of scores (M,) and (N,), ties halved; None of none."""
    if not len(members) or not len(others):
        return None
    ranks = scipy.stats.rankdata(torch.cat([members, others]).double().numpy())
    m, n = len(members), len(others)
    return float((ranks[:m].sum() - m * (m + 1) / 2) / (m * n))


def power(members: Tensor, others: Tensor, false_alarms: float) -> Power | None:
    """Return the share of members above all but a share ``false_alarms`` of the others.

    With fewer than 1 / ``false_alarms`` others none of them is above.
    """
    if not len(members) or not len(others):
        return None
    allowed = math.floor(false_alarms * len(others))
    threshold = others.sort(descending=True).values[allowed]
    hits = int((members > threshold).sum())
    low, high = interval(hits, len(members))
    return Power(rate=hits / len(members), low=low, high=high)


def chance(hits: int, members: int, others: int, false_alarms: float) -> float:
    """Return the probability of so many hits or more of :func:`power` if scores say nothing.

    Members and others are then in random order. There are ``hits`` members or more above the
    threshold if and only if at most as many others as are allowed are among the highest
    ``hits`` plus that many: hypergeometric. With few others it is more than ``false_alarms``.
    """
    if not hits or not others:
        return 1.0
    allowed = math.floor(false_alarms * others)
    return float(scipy.stats.hypergeom.cdf(allowed, members + others, others, hits + allowed))


def auc_chance(area: float | None, members: int, others: int) -> float:
    """Return the probability of such an AUC or more if scores say nothing (Mann and Whitney)."""
    if area is None or not members or not others:
        return 1.0
    deviation = math.sqrt((members + others + 1) / (12 * members * others))
    return float(scipy.stats.norm.sf((area - 0.5) / deviation))


def interval(hits: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact confidence interval of a probability (Clopper and Pearson, 1934)."""
    half = (1 - level) / 2
    low = float(scipy.stats.beta.ppf(half, hits, trials - hits + 1)) if hits else 0.0
    high = float(scipy.stats.beta.ppf(1 - half, hits + 1, trials - hits)) if hits < trials else 1.0
    return low, high


def first_among(members: Tensor, others: Tensor) -> float | None:
    """Return how often a member is first among it and all others: top-1 identification."""
    if not len(members) or not len(others):
        return None
    return float((members > others.max()).double().mean())
