"""Levenberg-Marquardt along the path of the most probable images as the noise falls."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from torch import Tensor

from adversary.common.results import IterationRecord
from adversary.optim.prior_terms import PriorTerm
from adversary.optim.quadratic_models import QuadraticModel
from adversary.optim.search import Search
from adversary.problem.residuals import Residuals

ModelMaker = Callable[[Residuals, Tensor, Tensor, PriorTerm], QuadraticModel]


class Equations(Protocol):
    """Residuals r(x), (m,), of images (B, C, H, W), in standard deviations."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return r(x)."""

    def pullback(self, images: Tensor) -> Callable[[Tensor], Tensor]:
        """Return u -> J^T u, from (m,) to (n,)."""

    def bend(self, images: Tensor, tangent: Tensor) -> Tensor:
        """Return the second derivative along v, (m,)."""


E = TypeVar("E", bound=Equations)
P = TypeVar("P", bound=PriorTerm)


ANNEALING_RATE = math.log(30.0)
"""Logarithm of the factor by which the noise first falls in a step."""

MIN_RATE, MIN_INITIAL_RATE, MAX_RATE = 0.1, math.log(2.0), math.log(1e4)
"""Of these: least, least to begin a step with, largest."""

MAX_CURVATURE_RATIO = 0.5
"""Largest correction of a step's curvature, relative to the step, that is trusted."""

MAX_TRIALS = 16
"""Coolings and dampings tried for one step."""

MAX_CHI_SQUARE = 3.0
"""Chi-square at most, in units of the temperature, else the noise is taken for larger again."""

MIN_DECREASE, PATIENCE_STEPS = 0.9, 2
"""Factor by which the misfit falls at least in so many steps, where the noise is at its least."""

CONVERGED_STEP = 1e-3
"""Mean squared step, in standard deviations of the posterior, from which on nothing moves."""


@dataclass
class Iterate:
    """Where a descent has come to.

    Parameters
    ----------
    images : Tensor
        (B, C, H, W).
    residual : Tensor
        (m,) there.
    temperature : float
        Variance of the noise that is assumed, in units of the true one; at least 1.
    damping : float
        That the next step begins with.
    cooling : float
        Logarithm of the factor by which the next step first tries to lower the temperature.
    settled : bool
        Whether steps no longer move the images by what their noise does.
    """

    images: Tensor
    residual: Tensor
    temperature: float = 1.0
    damping: float = 1e-6
    cooling: float = ANNEALING_RATE
    settled: bool = False

    def __post_init__(self) -> None:
        self.temperature = max(1.0, self.temperature)

    @property
    def chi_square(self) -> float:
        """Mean squared residual: about 1 where the noise alone is left."""
        return float(self.residual.square().mean())

    def cost(self, penalty: PriorTerm, temperature: float) -> float:
        """Return ||r||^2 / temperature + penalty."""
        return float(self.residual @ self.residual) / temperature + penalty.value(self.images)


@dataclass(frozen=True, kw_only=True)
class DescentOptions:
    """How far a descent goes.

    Parameters
    ----------
    iterations : int
        Accepted steps at most.
    target : float
        Chi-square at which to stop.
    restart : int
        Number of the descent in the history.
    """

    iterations: int
    target: float = 0.0
    restart: int = 0


KeepGoing = Callable[[Iterate, float], bool]
"""Whether to go on from an iterate, given it and the temperature at which its step began."""


@dataclass(frozen=True)
class LevenbergMarquardt(Generic[E, P]):
    """Minimises ||r||^2 + penalty by at most so many accepted steps.

    Far from the solution the residuals are thousands of standard deviations and the linear model
    cannot explain their last digits; a step that tries moves the images along directions that
    only noise determines. So the noise is first taken for as large as the misfit and then falls
    to its true level, as fast as the images can follow (continuation in the noise, Bakushinskii
    1992). On the way what the present noise hides is left to the penalty, so that of images that
    the update tells only together (those of one label, to first order) each is found on the
    branch that the prior makes most probable, where a fall at once ends in another minimum.
    A step to less noise is taken if its curvature is small beside it and it gains what it
    promised, else the fall is made smaller. Noise far below the misfit is never taken: where
    the misfit no longer falls, the descent ends. Steps follow the curvature of the path by geodesic
    acceleration (Transtrum and Sethna 2012).

    Parameters
    ----------
    equations : Equations
        r(x), in standard deviations.
    prior_term : PriorTerm
        What is added to the misfit, and the metric in which steps are damped.
    make_model : callable
        :class:`~adversary.optim.quadratic_models.DenseModel` or
        :class:`~adversary.optim.quadratic_models.CGModel`.
    search : Search
        Clock, limits and history; gains one record a step.
    options : DescentOptions
        How far to go.
    """

    equations: E
    prior_term: P
    make_model: Callable[[E, Tensor, Tensor, P], QuadraticModel]
    search: Search
    options: DescentOptions

    def minimise(self, place: Iterate, keep_going: KeepGoing | None = None) -> Iterate:
        """Return where steps end that begin at a place."""
        search, options = self.search, self.options
        lowest, held = math.inf, 0
        if not len(search.history):
            self._record(place)
        for _ in range(options.iterations):
            if search.exhausted():
                break
            moved = self._step(place)
            if moved is None:  # the digits of float64 are used up
                place.settled = True
                break
            before = place.temperature
            place, decrement = moved
            self._record(place)
            still = decrement < CONVERGED_STEP * place.images.numel()
            place.settled = still and place.temperature in (1, before)
            ended = keep_going is not None and not keep_going(place, before)
            if ended or place.settled or place.chi_square < options.target:
                break
            falls = place.temperature == 1 or place.chi_square < MIN_DECREASE * lowest
            lowest, held = min(lowest, place.chi_square), 0 if falls else held + 1
            if held > PATIENCE_STEPS:
                break
        return place

    def _record(self, place: Iterate) -> None:
        history, restart = self.search.history, self.options.restart
        history.append(
            IterationRecord(restart, len(history), place.chi_square, self.search.seconds)
        )

    def _step(self, place: Iterate) -> tuple[Iterate, float] | None:
        """Return the next place and d^T H d of the step to it; None where no step goes down."""
        model = self.make_model(self.equations, place.images, place.residual, self.prior_term)
        moved = self._trials(place, model)
        self.search.evaluations += model.evaluations
        return moved

    def _trials(self, place: Iterate, model: QuadraticModel) -> tuple[Iterate, float] | None:
        """Try coolings first, then dampings."""
        equations, penalty = self.equations, self.prior_term
        x = place.images
        pull = equations.pullback(x)
        damping, cooling = place.damping, place.cooling if place.temperature > 1 else 0.0
        for _ in range(MAX_TRIALS):
            temperature = max(1.0, place.temperature * math.exp(-cooling))
            if model.factorise(1 / temperature, damping):
                gradient = model.gradient()
                step = model.solve(-gradient)
                curvature = model.curvature(step)
                promised = -2 * (step @ gradient).item() - curvature
                bend = equations.bend(x, step.view_as(x))
                turn = -0.5 * model.solve(pull(bend / temperature))
                self.search.evaluations += 4
                if 2 * penalty.length(turn) <= MAX_CURVATURE_RATIO * penalty.length(step):
                    moved = x + (step + turn).view_as(x)
                    reached = Iterate(moved, equations(moved), temperature)
                    gained = place.cost(penalty, temperature) - reached.cost(penalty, temperature)
                    quality = gained / promised
                    if quality > (0.5 if cooling else 0.0):
                        reached.temperature = max(temperature, reached.chi_square / MAX_CHI_SQUARE)
                        reached.damping, reached.cooling = _update_damping(
                            damping, cooling, quality
                        )
                        return reached, curvature
                if not cooling and curvature < CONVERGED_STEP * x.numel():
                    return None  # shorter steps gain even less
            if cooling:
                cooling = cooling / 3 if cooling > MIN_RATE else 0.0
            else:
                damping = max(6 * damping, 1e-3)
        return None


def _update_damping(damping: float, cooling: float, quality: float) -> tuple[float, float]:
    """Return damping and annealing rate after a step of gain ratio ``quality``."""
    if quality < 0.25:
        damping *= 3
    elif quality > 0.5:
        damping = max(damping / 10, 1e-8)
    if quality > 0.75:
        cooling *= 2
    return damping, min(max(cooling, MIN_INITIAL_RATE), MAX_RATE)
