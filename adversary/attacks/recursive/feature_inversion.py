"""Images from the outputs of a layer by gradient steps: for those too large for linear equations.

Mahendran and Vedaldi, "Understanding deep image representations by inverting them" (CVPR 2015),
with what is known of the outputs of a ReLU, and a normal distribution of images in place of total
variation.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from adversary.attacks.recursive.least_absolute_deviations import LadResult
from adversary.optim.levenberg_marquardt import DescentOptions
from adversary.optim.loop import Recording, minimise
from adversary.optim.optimizers import LBFGS
from adversary.optim.search import Search
from adversary.priors.gaussian import GaussianPrior

OUTPUT_STD = 0.1
"""Deviation that an output may have, relative to the root mean square of those that are on."""

LBFGS_HISTORY = 30
"""Curvature pairs of L-BFGS."""


def invert_features(
    layer: Callable[[Tensor], Tensor],
    outputs: Tensor,
    on: Tensor,
    prior: GaussianPrior,
    *,
    search: Search,
    options: DescentOptions,
) -> LadResult:
    """Return the image with which a layer gives outputs that come near the known ones.

    Least of the squared deviations of outputs that are on, and of the others where they are
    positive, plus the Mahalanobis distance ||z||^2 of the image x = mu + S^1/2 z from the prior's
    mean, by L-BFGS from there.

    Parameters
    ----------
    layer : callable
        From (1, C, H, W) to (1, m), what a ReLU is given or the outputs themselves.
    outputs, on, prior, search, options
        As of
        :func:`~adversary.attacks.recursive.least_absolute_deviations.least_absolute_deviations`.
    """
    unit = OUTPUT_STD * outputs[on].square().mean().sqrt()
    wanted = torch.where(on, outputs, 0)

    def misfit(whitened: Tensor) -> Tensor:
        found = layer(prior.colour(whitened))
        gap = torch.where(on, found - wanted, found.clamp_min(0)) / unit
        return gap.square().sum() + whitened.square().sum()

    method = LBFGS(memory=LBFGS_HISTORY)
    best, _ = minimise(
        lambda variables: torch.stack([misfit(z) for z in variables["whitened"]]),
        {"whitened": torch.zeros(1, 1, prior.size).to(outputs)},
        method,
        iterations=options.iterations,
        search=search,
        recording=Recording(first_restart=options.restart),
    )
    return LadResult(prior.colour(best["whitened"][0]), settled=method.stalled())
