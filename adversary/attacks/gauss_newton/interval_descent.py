"""Newton's steps on an update of which only limits are told, as its levels or signs."""

from __future__ import annotations

import torch
from torch import Tensor

from adversary.common.results import IterationRecord
from adversary.optim.levenberg_marquardt import Iterate
from adversary.optim.search import Search
from adversary.priors.gaussian import GaussianPrior
from adversary.problem.interval_equations import (
    MAX_FALL,
    MIN_INFORMATION,
    Distances,
    IntervalEquations,
    likeliest_factor,
    precision_of,
    prior_noise,
    variance_of,
)
from adversary.problem.interval_likelihood import log_probability

MAX_STALE_STEP = 0.005
"""Root mean square, in grey levels from 0 to 1, by which images move with one Jacobian."""

CONVERGED_STEP, CONVERGED_NOISE = 1e-3, 0.02
"""Mean squared step, in standard deviations of the posterior, and relative change of the noise, at
which a descent ends."""

MAX_HALVINGS = 6
"""Of a step that does not gain."""


def interval_descent(
    equations: IntervalEquations,
    images: Tensor,
    prior: GaussianPrior,
    *,
    iterations: int,
    search: Search,
    restart: int = 0,
) -> Iterate:
    """Return the most probable images as the noise falls to what their own uncertainty makes.

    The noise of each entry begins with what the prior leaves open of it. After each step it is the
    uncertainty of the entry that the posterior there leaves, times the factor, if above 1, that
    makes the update likeliest: far from the images that is their misfit. Each step is Newton's at
    the present noise.

    Parameters
    ----------
    equations : IntervalEquations
        All of one update under given labels.
    images : Tensor
        (B, C, H, W), where to start.
    prior : GaussianPrior
        Of each image.
    iterations : int
        Steps at most.
    search : Search
        Clock, limits and history; gains one step each.
    restart : int
        Number of the descent in the history.

    Returns
    -------
    Iterate
        Its residual is the factor of the noise: 1 where the uncertainty explains what is left.
    """
    rows, taken = equations.rows(images), images
    search.evaluations += len(rows)
    noise = prior_noise(rows, equations.floor, prior)
    distances, factor, settled = equations.distances(images), 1.0, False
    noise = noise * max(1.0, likeliest_factor(distances, noise))
    for _ in range(iterations):
        if search.exhausted() or settled:
            break
        if float((images - taken).square().mean()) > MAX_STALE_STEP**2:
            rows, taken = equations.rows(images), images
            search.evaluations += len(rows)
        weights = distances.weights(noise)
        active = weights * noise.square() > MIN_INFORMATION
        precision = precision_of(rows, torch.where(active, weights, 0.0), prior)
        root = torch.linalg.cholesky(precision)
        step = torch.cholesky_solve(-_gradient(rows, distances, images, noise, prior), root)
        images = _moved(equations, images, step.view_as(images), noise, prior)
        distances, before = equations.distances(images), noise.clone()
        variance = variance_of(rows[:, active], root) + equations.floor[active].square()
        own = noise.clone()
        own[active] = variance.sqrt()
        factor = likeliest_factor(distances, own)
        noise = (own * max(1.0, factor)).maximum(MAX_FALL * noise)
        length = float(step[:, 0] @ precision @ step[:, 0])
        changed = float((noise[active] / before[active]).log().abs().mean())
        settled = length < CONVERGED_STEP * len(step) and changed < CONVERGED_NOISE
        count = len(search.history)
        search.history.append(IterationRecord(restart, count, factor**2, search.seconds))
    residual = images.new_tensor([max(1.0, factor)])
    return Iterate(images, residual, settled=settled)


def _gradient(
    rows: Tensor, distances: Distances, images: Tensor, noise: Tensor, prior: GaussianPrior
) -> Tensor:
    """Return half the gradient of :func:`_cost`, (n, 1)."""
    pull = prior.precision_matvec((images - prior.mean).flatten(1)).flatten()
    data = (rows @ distances.slope(noise).to(rows)).to(pull)
    return (pull - data)[:, None]


def _moved(
    equations: IntervalEquations, images: Tensor, step: Tensor, noise: Tensor, prior: GaussianPrior
) -> Tensor:
    """Return the images after a step, halved until it gains; themselves if none does."""
    now = _cost(equations, images, noise, prior)
    for _ in range(MAX_HALVINGS):
        if _cost(equations, images + step, noise, prior) < now:
            return images + step
        step = step / 2
    return images


def _cost(
    equations: IntervalEquations, images: Tensor, noise: Tensor, prior: GaussianPrior
) -> float:
    """Return twice the negative logarithm of the posterior at a noise."""
    likelihood = log_probability(*equations.distances(images).over(noise)).sum()
    return -2 * float(likelihood) + float(prior.whiten(images).square().sum())
