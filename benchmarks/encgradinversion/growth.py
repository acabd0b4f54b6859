"""How the time of an attack grows with the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Growth(NamedTuple):
    """A straight line through times, and the power of the batch that they grow with.

    Parameters
    ----------
    fixed, each : float
        Seconds of any batch, and of each image more.
    exponent : float
        Of the batch, by a line through the logarithms of times and batches; 1 is linear.
    """

    fixed: float
    each: float
    exponent: float


def growth(batches: Sequence[int], seconds: Sequence[float]) -> Growth:
    """Fit times of at least two batches by least squares; the line in relative errors.

    Small batches, whose time is all fixed, would otherwise count for nothing beside large ones.
    """
    sizes, times = np.asarray(batches, float), np.asarray(seconds, float)
    design = np.stack([np.ones_like(sizes), sizes], axis=1) / times[:, None]
    (fixed, each), *_ = np.linalg.lstsq(design, np.ones_like(times), rcond=None)
    exponent, _ = np.polyfit(np.log(sizes), np.log(times), 1)
    return Growth(float(fixed), float(each), float(exponent))
