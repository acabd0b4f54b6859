"""Whether an update is explained: chi-square beside its distribution."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from adversary.problem.residuals import Residuals

MAX_SIGMAS = 5.0
"""Standard deviations that chi-square may lie off its mean, where the noise is known."""

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
    rounded : float
        Of the other entries, the mean squared residual beside the mean of simulated rounding; 0
        where there are none.
    """

    chi_square: float
    deviation: float
    rounded: float

    @property
    def explained(self) -> bool:
        """Whether both lie within their distributions."""
        return abs(self.deviation) <= MAX_SIGMAS and self.rounded <= MAX_ROUNDING_RATIO


def goodness(equations: Residuals, residual: Tensor, parameters: float) -> Goodness:
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
    """
    squares = residual.square().split(equations.counts.tolist())
    known, count, rest, others = 0.0, 0, 0.0, 0
    for name, part in zip(equations.picks, squares, strict=True):
        if equations.noise_is_known(name, MIN_NOISE_TO_ROUNDING):
            known, count = known + float(part.sum()), count + len(part)
        else:
            rest, others = rest + float(part.sum()), others + len(part)
    share = count / len(residual)
    expected = count - share * parameters
    return Goodness(
        chi_square=float(residual.square().mean()),
        deviation=(known - expected) / math.sqrt(2 * count) if count else 0.0,
        rounded=rest / others if others else 0.0,
    )
