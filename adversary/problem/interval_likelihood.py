r"""The likelihood of a value that is only known to lie in an interval, in units of its noise.

Of y = g + e with e standard normal it is known that l <= y <= u: a sign (Tobin 1958), a level, or a
value below a threshold. With a = l - g and b = u - g, and Phi and phi the normal distribution and
density,

    log p = log(Phi(b) - Phi(a)),   score d/dg log p = (phi(a) - phi(b)) / p,
    information -d^2/dg^2 log p = score^2 + (b phi(b) - a phi(a)) / p,

which lies in [0, 1], as p is log-concave in g. Where l = u the value itself is known, and p is the
density. All functions are elementwise, in float64, of the distances a <= b.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.special import log_ndtr

QUADRATURE_NODES = 9
"""Points of the Gauss-Hermite rule."""

MIN_WIDTH = 1e-6
"""Of an interval, in standard deviations, below which it is a value."""


def log_probability(lower: Tensor, upper: Tensor) -> Tensor:
    """Return log p; of a value, its log density."""
    width = upper - lower
    value = width < MIN_WIDTH
    middle = torch.where(value, lower + width / 2, 0.0)
    narrow = _log_density(middle) + torch.where(width > 0, width, 1.0).log()
    return torch.where(value, narrow, _log_mass(lower, upper))


def score(lower: Tensor, upper: Tensor) -> Tensor:
    """Return the derivative of log p in g."""
    value, mass = upper - lower < MIN_WIDTH, _log_mass(lower, upper)
    slope = (_log_density(lower) - mass).exp() - (_log_density(upper) - mass).exp()
    return torch.where(value, lower + (upper - lower) / 2, slope)


def information(lower: Tensor, upper: Tensor) -> Tensor:
    """Return the negative second derivative of log p in g, in [0, 1]."""
    value, mass = upper - lower < MIN_WIDTH, _log_mass(lower, upper)
    left, right = (_log_density(lower) - mass).exp(), (_log_density(upper) - mass).exp()
    low = torch.where(lower.isinf(), 0.0, lower) * left
    high = torch.where(upper.isinf(), 0.0, upper) * right
    bent = (left - right).square() + high - low
    return torch.where(value, 1.0, bent.clamp(0, 1))


def expected_information(lower: Tensor, upper: Tensor) -> Tensor:
    """Return the mean information at g + v, v standard normal, where g lies in the interval.

    What an estimate of g, off by v, has on average.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(QUADRATURE_NODES)
    each = (
        float(weight) * information(lower - float(node), upper - float(node))
        for node, weight in zip(nodes, weights / weights.sum(), strict=True)
    )
    return torch.stack(list(each)).sum(0)


def _log_density(x: Tensor) -> Tensor:
    return -0.5 * x.square() - 0.5 * math.log(2 * math.pi)


def _log_mass(lower: Tensor, upper: Tensor) -> Tensor:
    """Return log(Phi(u) - Phi(l)), from the side of the line on which nothing cancels."""
    flipped = lower + upper > 0
    low = torch.where(flipped, -upper, lower)
    high = torch.where(flipped, -lower, upper)
    end = log_ndtr(high)
    below = torch.where(low.isinf(), -torch.inf, log_ndtr(low) - end)
    return end + torch.log(-torch.expm1(below.clamp(max=-1e-300)))
