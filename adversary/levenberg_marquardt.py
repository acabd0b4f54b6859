"""Levenberg-Marquardt on residuals whose noise is taken down from the misfit to its true level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from adversary.normal_equations import Model, Penalty
from adversary.optimise import Search
from adversary.reconstruction import Step
from adversary.residuals import Residuals

ModelMaker = Callable[[Residuals, Tensor, Tensor, Tensor, Penalty], Model]

TRUST = 0.05
"""Share of an array's mean squared residual by which a step may reduce it."""

TRIES = 12
"""Dampings tried for one step."""

SETTLED = 1e-3
"""Mean squared step, in standard deviations of the posterior, from which on nothing moves."""


@dataclass
class Place:
    """Where a descent has come to.

    Parameters
    ----------
    images : Tensor
        (B, C, H, W).
    residual : Tensor
        (m,) there.
    damping : float
        That the next step begins with.
    settled : bool
        Whether steps no longer move the images by what their noise does.
    """

    images: Tensor
    residual: Tensor
    damping: float = 1e-2
    settled: bool = False

    @property
    def chi_square(self) -> float:
        """Mean squared residual: about 1 where the noise alone is left."""
        return float(self.residual.square().mean())


def descend(
    equations: Residuals,
    place: Place,
    penalty: Penalty,
    make_model: ModelMaker,
    *,
    iterations: int,
    search: Search,
    restart: int = 0,
) -> Place:
    """Minimise ||r||^2 + penalty by at most so many accepted steps.

    Far from the solution the residuals are thousands of standard deviations and the linear model
    cannot explain their last digits; a step that tries moves the images along directions that
    only noise determines. So each array's noise is taken to be at least a share of its present
    misfit (:data:`TRUST`), which falls as the images come nearer, until the true noise is left:
    continuation in the noise level, as in the iteratively regularised Gauss-Newton method
    (Bakushinskii 1992). An array whose noise was stated too low keeps a larger one.

    Parameters
    ----------
    equations : Residuals
        r(x), in standard deviations.
    place : Place
        Where to start.
    penalty : Penalty
        What is added to the misfit, and the metric in which steps are damped.
    make_model : callable
        :class:`~adversary.normal_equations.Dense` or
        :class:`~adversary.normal_equations.MatrixFree`.
    iterations : int
        Accepted steps at most.
    search : Search
        Clock, limits and history; gains one step each.
    restart : int
        Number of the descent in the history.
    """
    if not len(search.history):
        search.history.append(Step(restart, 0, place.chi_square, search.seconds))
    for _ in range(iterations):
        if search.exhausted():
            break
        heat = temperatures(equations, place.residual)
        moved = _step(equations, place, penalty, make_model, 1 / heat, search)
        if moved is None:  # no damping helps: the digits of float64 are used up
            place.settled = True
            break
        place, decrement = moved
        count = len(search.history)
        search.history.append(Step(restart, count, place.chi_square, search.seconds))
        cooler = temperatures(equations, place.residual)
        if decrement < SETTLED * place.images.numel() and bool((cooler > heat / 2).all()):
            place.settled = True
            break
    return place


def temperatures(equations: Residuals, residual: Tensor) -> Tensor:
    """Return by how much to inflate the variance of each residual, (m,), at least 1."""
    squares = torch.stack([r.square().mean() for r in residual.split(equations.counts.tolist())])
    return (TRUST * squares).clamp_min(1).repeat_interleave(equations.counts)


def _step(
    equations: Residuals,
    place: Place,
    penalty: Penalty,
    make_model: ModelMaker,
    weights: Tensor,
    search: Search,
) -> tuple[Place, float] | None:
    """Return the next place and d^T H d of the step to it; None where no step goes down."""

    def cost(residual: Tensor, images: Tensor) -> float:
        return float(weights @ residual.square()) + penalty.value(images)

    x = place.images
    model = make_model(equations, x, place.residual, weights, penalty)
    search.evaluations += x.numel()
    before, damping = cost(place.residual, x), place.damping
    for _ in range(TRIES):
        step = model.step(damping)
        if step is not None:
            moved = x + step.view_as(x)
            residual = equations(moved)
            search.evaluations += 1
            gained = before - cost(residual, moved)
            curvature = model.curvature(step)
            promised = -2 * float(step @ model.gradient) - curvature
            if gained > 0:
                damping = _next(damping, gained / promised)
                return Place(moved, residual, damping), curvature
        damping = max(6 * damping, 1e-3)
    return None


def _next(damping: float, ratio: float) -> float:
    """Return the damping after a step that gained ``ratio`` of what its model promised."""
    if ratio < 0.25:
        return 3 * damping
    return max(damping / (10 if ratio > 0.5 else 1), 1e-8)
