"""Levenberg-Marquardt on residuals whose noise is taken down from the misfit to its true level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from adversary.normal_equations import Model, Penalty
from adversary.optimise import Search
from adversary.reconstruction import Step
from adversary.residuals import Residuals

ModelMaker = Callable[[Residuals, Tensor, Tensor, float, Penalty], Model]

BOLD, CAUTIOUS = 0.05, 1.0
"""Least and largest share of the misfit that is taken for noise."""

BEND = 0.75
"""Largest correction of a step's curvature, relative to the step, that is trusted."""

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
    share : float
        Of the misfit that the next step takes for noise.
    settled : bool
        Whether steps no longer move the images by what their noise does.
    """

    images: Tensor
    residual: Tensor
    damping: float = 1e-2
    share: float = BOLD
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
    only noise determines. So the noise is taken to be at least a share of the present misfit
    (:data:`BOLD`), which falls as the images come nearer, until the true noise is left:
    continuation in the noise level, as in the iteratively regularised Gauss-Newton method
    (Bakushinskii 1992). The share grows where steps gain less than promised. Steps follow the
    curvature of the path by geodesic acceleration (Transtrum and Sethna 2012).

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
        heat = temperature(place)
        moved = _step(equations, place, penalty, make_model, 1 / heat, search)
        if moved is None:  # no damping helps: the digits of float64 are used up
            place.settled = True
            break
        place, decrement = moved
        count = len(search.history)
        search.history.append(Step(restart, count, place.chi_square, search.seconds))
        if decrement < SETTLED * place.images.numel() and temperature(place) > heat / 2:
            place.settled = True
            break
    return place


def temperature(place: Place) -> float:
    """Return by how much to inflate the variance of the noise, at least 1."""
    return max(1.0, place.share * place.chi_square)


def _step(
    equations: Residuals,
    place: Place,
    penalty: Penalty,
    make_model: ModelMaker,
    weight: float,
    search: Search,
) -> tuple[Place, float] | None:
    """Return the next place and d^T H d of the step to it; None where no step goes down."""

    def cost(residual: Tensor, images: Tensor) -> float:
        return weight * float(residual @ residual) + penalty.value(images)

    x = place.images
    model = make_model(equations, x, place.residual, weight, penalty)
    search.evaluations += x.numel()
    before, damping, share = cost(place.residual, x), place.damping, place.share
    for _ in range(TRIES):
        if model.factorise(damping):
            step = model.solve(-model.gradient)
            curvature = model.curvature(step)
            promised = -2 * float(step @ model.gradient) - curvature
            bend = equations.bend(x, step.view_as(x))
            turn = -0.5 * model.solve(equations.backward(x, weight * bend).flatten())
            search.evaluations += 4
            ratio = penalty.length(turn) / penalty.length(step)
            if 2 * ratio <= BEND:
                moved = x + (step + turn).view_as(x)
                residual = equations(moved)
                gained = before - cost(residual, moved)
                if gained > 0:
                    quality = gained / promised
                    return Place(moved, residual, *_next(damping, share, quality)), curvature
        damping, share = max(6 * damping, 1e-3), min(4 * share, CAUTIOUS)
    return None


def _next(damping: float, share: float, quality: float) -> tuple[float, float]:
    """Return damping and share after a step that gained ``quality`` of what was promised."""
    if quality < 0.25:
        return 3 * damping, min(4 * share, CAUTIOUS)
    if quality < 0.5:
        return damping, share
    return max(damping / 10, 1e-8), max(share / 2, BOLD)
