"""The posterior of images at an estimate where an update tells limits alone.

The noise of each entry is what the posterior's own uncertainty makes of it
(:func:`adversary.problem.interval_equations.self_consistent`). An estimate lies further from the
limits than the truth does, as it was fitted to them; so the precision is taken at a draw of the
posterior, which lies as the truth does.
"""

from __future__ import annotations

import torch
from torch import Tensor

from adversary.attacks.certificates.goodness import Goodness
from adversary.attacks.certificates.posterior import Posterior, truncated
from adversary.common.seeding import generator
from adversary.priors.gaussian import GaussianPrior
from adversary.problem.interval_equations import (
    Distances,
    IntervalEquations,
    likeliest_factor,
    precision_of,
    prior_noise,
    self_consistent,
)

SETTLED_STEP = 0.1
"""Mean squared step, in standard deviations of the posterior, to which an estimate is settled."""

DRAW_WIDENING = 2.0
"""Factor of the noise from which the fixed point at a draw is approached."""


def interval_posterior(
    equations: IntervalEquations, images: Tensor, prior: GaussianPrior, seed: int
) -> tuple[Posterior, Goodness]:
    """Return the posterior at an estimate, and whether its uncertainty explains what is left.

    Parameters
    ----------
    equations : IntervalEquations
        Of the update under the estimate's labels.
    images : Tensor
        (B, C, H, W), the estimate; not clamped.
    prior : GaussianPrior
        Of each image.
    seed : int
        Of the draw.

    Raises
    ------
    ValueError
        If the covariance is singular in float64.
    """
    rows, seen = equations.rows(images), equations.distances(images)
    if not bool(torch.isfinite(rows).all()):
        raise ValueError("the Jacobian at the estimate is not finite")
    noise = prior_noise(rows, equations.floor, prior)
    precision, noise = self_consistent(rows, seen.folded(), noise, equations.floor, prior)
    draw = torch.randn(len(rows), 1, dtype=images.dtype, generator=generator(seed, "posterior"))
    away = torch.linalg.solve_triangular(
        torch.linalg.cholesky(precision).T, draw.to(images), upper=True
    )
    linear = seen.shifted((away.to(rows).T @ rows)[0].to(images))
    drawn = linear.folded()
    precision, noise = self_consistent(rows, drawn, DRAW_WIDENING * noise, equations.floor, prior)
    covariance = torch.cholesky_inverse(torch.linalg.cholesky(precision))
    ratio = likeliest_factor(seen, noise) ** 2
    moved = equations.distances(images + away.view_as(images))
    bend = torch.where(seen.lower.isinf(), moved.upper - linear.upper, moved.lower - linear.lower)
    posterior = _posterior(
        covariance,
        images,
        prior,
        settled=_settled(rows, seen, noise, images, prior),
        bend=float((seen.weights(noise) * bend.square()).sum()),
    )
    return posterior, Goodness(chi_square=ratio, deviation=0.0, worst=0.0, rounded=ratio)


def _settled(
    rows: Tensor, seen: Distances, noise: Tensor, images: Tensor, prior: GaussianPrior
) -> bool:
    """Return whether the next step would move the estimate by less than its uncertainty."""
    pull = prior.precision_matvec((images - prior.mean).flatten(1)).flatten()
    slope = pull - (rows @ seen.slope(noise).to(rows)).to(pull)
    factor = torch.linalg.cholesky(precision_of(rows, seen.weights(noise), prior))
    step = torch.cholesky_solve(slope[:, None], factor)[:, 0]
    return float(step @ slope) < SETTLED_STEP * len(step)


def _posterior(
    covariance: Tensor, images: Tensor, prior: GaussianPrior, *, settled: bool, bend: float
) -> Posterior:
    """Return it with what it states; ``bend`` is the curvature of all unknowns together."""
    size, precision = prior.size, prior.precision()
    own = [covariance[i : i + size, i : i + size] for i in range(0, len(covariance), size)]
    variance = covariance.diagonal().view_as(images)
    within, spread = truncated(images, variance)
    parameters = images.numel() - float(sum((one * precision).sum() for one in own))
    decided = sum(float((one @ precision * one).sum()) for one in own)
    return Posterior(
        images=within,
        estimate=images,
        variance=spread,
        parameters=parameters,
        by_array=(),
        freedom=torch.stack([one.trace().square() / one.square().sum() for one in own]),
        settled=settled,
        by_prior=decided / float(variance.sum()),
        curvature=bend / max(parameters, 1.0),
    )
