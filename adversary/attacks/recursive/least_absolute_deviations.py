"""Images from the outputs of a layer: least absolute deviations, with a prior.

Up to its first layers a ReLU network is continuous and linear in pieces. Most of the outputs that
are known soon lie in the right piece of it, where their equations hold to the last digit; the
others are gross errors. The least sum of absolute deviations takes no notice of a minority of
such errors, where least squares ends between the pieces (Candes and Tao, "Decoding by linear
programming", 2005).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from torch import Tensor

from adversary.common.results import IterationRecord
from adversary.optim.levenberg_marquardt import DescentOptions
from adversary.optim.search import Search
from adversary.priors.gaussian import GaussianPrior
from adversary.problem.sparse_jacobian import SparseJacobian

INLIER_QUANTILE = 0.9
"""Share of the equations whose largest deviation is the scale at which the others are errors."""

INITIAL_SCALE, FINAL_SCALE = 1e-3, 1e-9
"""Least scale at first and in the end, relative to the largest output."""

SCALE_DECAY = 0.3
"""Factor by which the least scale falls once no equation is grossly off."""

OUTLIER_SCALES = 10.0
"""Scales from which on an equation is."""

DENSE_ABOVE = 0.2
"""Share of entries other than 0 from which on dense products are quicker."""

PATIENCE_STEPS = 12
"""Steps in which the scale must fall by a tenth."""


@dataclass(frozen=True)
class LadResult:
    """An image with which a layer gives known outputs.

    Parameters
    ----------
    image : Tensor
        (1, C, H, W).
    settled : bool
        Whether steps had come to their end.
    holds : bool
        Whether all equations do, but for noise.
    """

    image: Tensor
    settled: bool = False
    holds: bool = False


def least_absolute_deviations(
    layer: SparseJacobian,
    outputs: Tensor,
    on: Tensor,
    prior: GaussianPrior,
    *,
    search: Search,
    options: DescentOptions,
    start: Tensor | None = None,
) -> LadResult:
    """Invert a layer by least absolute deviations.

    Least of sum |r_i| / s + (x - mu)^T P (x - mu), by reweighted least squares (Schlossmacher
    1973), with s falling as the equations come to hold: too small a scale while some are in the
    wrong piece, and these outweigh all others wherever few tell of the image.

    Parameters
    ----------
    layer : SparseJacobian
        From (1, C, H, W) to what a ReLU is given, or to the outputs themselves.
    outputs : Tensor
        Outputs, (1, ...).
    on : Tensor
        Which of them are positive, of the same shape; of the others it is known that they are not.
    prior : GaussianPrior
        Of the image.
    search : Search
        Clock, limits and history; gains one record a step.
    options : DescentOptions
        Steps at most, and the number of the image for the history.
    start : Tensor, optional
        Image to begin with; the prior's mean unless given.
    """
    shape = prior.mean.shape
    mean, precision = prior.mean.flatten(), prior.precision()
    x = mean.clone() if start is None else start.flatten()
    wanted = torch.where(on, outputs, 0).flatten()
    largest = float(outputs.abs().max())
    least = INITIAL_SCALE * largest
    scales: list[float] = []
    for _ in range(options.iterations):
        if search.exhausted():
            break
        image = x.view(shape)
        value = layer.function(image).flatten()
        used = on.flatten() | (value > 0)
        gap = (value - wanted)[used]
        size = gap.abs()
        scale = float(size.quantile(INLIER_QUANTILE) if scales else size.square().mean().sqrt())
        while (
            scale < least
            and float(size.max()) < OUTLIER_SCALES * least
            and least > FINAL_SCALE * largest
        ):
            least *= SCALE_DECAY
        scale = max(scale, least)
        search.history.append(IterationRecord(options.restart, len(scales), scale, search.seconds))
        stuck = len(scales) > PATIENCE_STEPS and scale > 0.9 * min(scales[:-PATIENCE_STEPS])
        if least <= FINAL_SCALE * largest or stuck:
            return LadResult(image, settled=True, holds=float(size.max()) < INITIAL_SCALE * largest)
        scales.append(scale)
        search.evaluations += 1
        rows = layer(image)[used.nonzero()[:, 0].cpu().numpy()]
        trusted = size.clamp_min(scale) if len(scales) > 1 else torch.full_like(size, scale)
        weights = (1 / (scale * trusted)).cpu().numpy()
        normal = torch.from_numpy(curvature(rows, weights)).to(x) + precision
        pull = rows.T @ (weights * gap.cpu().numpy())
        slope = torch.from_numpy(pull).to(x) + precision @ (x - mean)
        x = x - torch.cholesky_solve(slope[:, None], torch.linalg.cholesky(normal))[:, 0]
    return LadResult(x.view(shape))


def curvature(rows: csr_array, weights: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return A^T W A, (n, n), of (m, n) and a diagonal W, (m,)."""
    weighted = rows * weights[:, None]
    if rows.nnz > DENSE_ABOVE * np.prod(rows.shape):
        found: npt.NDArray[Any] = rows.toarray().T @ weighted.toarray()
    else:
        found = (rows.T @ weighted).toarray()
    return found
