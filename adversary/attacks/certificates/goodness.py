"""Whether an update is explained: chi-square beside its distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import scipy
from torch import Tensor

from adversary.problem.residuals import Residuals

MAX_SIGMAS = 5.0
"""Standard deviations that chi-square may lie off, where the noise is known."""

MAX_ROUNDING_RATIO = 2.0
"""Of the chi-squares that simulated rounding leaves, the largest share that is believed."""

MIN_NOISE_TO_ROUNDING = 3.0
"""Size of the noise of the way beside rounding from which an array's noise counts as known."""


@dataclass(frozen=True, kw_only=True)
class Goodness:
    """What is left of an update at an estimate.

    Parameters
    ----------
    chi_square : float
        Mean squared residual over all entries.
    deviation : float
        Of the entries whose noise is known, how many standard deviations the sum of squares lies
        off what is expected of it; 0 where there are none.
    worst : float
        The same of the array of known noise that lies farthest off; 0 where arrays are not told
        apart. A noise level that was estimated from the update as a whole takes drift for noise:
        the sum then is as expected, and no array is.
    rounded : float
        Of the other entries, the mean squared residual beside the mean of simulated rounding; 0
        where there are none.
    """

    chi_square: float
    deviation: float
    worst: float
    rounded: float

    @property
    def explained(self) -> bool:
        """Whether all lie within their distributions."""
        off = max(abs(self.deviation), abs(self.worst))
        return off <= MAX_SIGMAS and self.rounded <= MAX_ROUNDING_RATIO


def goodness(
    equations: Residuals,
    residual: Tensor,
    parameters: float,
    determined: Sequence[float] | None = None,
) -> Goodness:
    """Return what residuals at an estimate say of it.

    Of N entries of known noise, fitted with ``parameters`` of them, the sum of squares is expected
    to be N - parameters with a standard deviation of sqrt(2 N); both too large and too small a
    sum tell that something is wrong. Rounding is no more than simulated: its level is believed to
    within a factor.

    Parameters
    ----------
    equations : Residuals
        Calibrated near the estimate.
    residual : Tensor
        (m,), there.
    parameters : float
        Unknowns that the update determines, 0 to m.
    determined : sequence of float, optional
        How many of them each array of ``equations.picks`` determines; each array is tested by
        itself then.
    """
    squares = residual.square().split(equations.counts.tolist())
    known, count, rest, others, worst = 0.0, 0, 0.0, 0, 0.0
    for i, (name, part) in enumerate(zip(equations.picks, squares, strict=True)):
        total = float(part.sum())
        if not equations.noise_is_known(name, MIN_NOISE_TO_ROUNDING):
            rest, others = rest + total, others + len(part)
            continue
        known, count = known + total, count + len(part)
        if determined is not None:
            worst = max(worst, deviation(total, len(part), determined[i]), key=abs)
    share = count / len(residual)
    expected = count - share * parameters
    return Goodness(
        chi_square=float(residual.square().mean()),
        deviation=(known - expected) / math.sqrt(2 * count) if count else 0.0,
        worst=worst,
        rounded=rest / others if others else 0.0,
    )


def deviation(total: float, count: int, determined: float) -> float:
    """Return how far a sum of squares lies off, as the normal value of the same probability.

    Parameters
    ----------
    total : float
        Of ``count`` residuals in standard deviations of their noise.
    count : int
        At least 1.
    determined : float
        Unknowns that these residuals were fitted by, 0 to ``count``: what a fit took out of the
        sum on average is added to it again.
    """
    refilled = total + determined
    if refilled > count:
        return float(scipy.stats.norm.isf(scipy.stats.chi2.sf(refilled, count)))
    return float(scipy.stats.norm.ppf(scipy.stats.chi2.cdf(refilled, count)))
