"""Second-order steps from one start under given labels, through all levels of the equations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

from torch import Tensor

from adversary.attacks.gauss_newton.activation_unknowns import (
    UNKNOWNS_PER_PIXEL,
    ActivationResiduals,
    solve_activations,
)
from adversary.attacks.gauss_newton.multistart import multistart
from adversary.attacks.gauss_newton.region_swaps import resolve_swaps, same_label_pairs
from adversary.attacks.gauss_newton.softplus import SHARPNESS, has_relu, with_softplus
from adversary.optim.levenberg_marquardt import (
    DescentOptions,
    Iterate,
    LevenbergMarquardt,
    ModelMaker,
)
from adversary.optim.prior_terms import GaussianTerm, NoPriorTerm, PriorTerm
from adversary.optim.quadratic_models import (
    CGModel,
    DenseModel,
    SketchedCGModel,
    SketchPreconditioner,
)
from adversary.optim.search import Search
from adversary.priors.gaussian import GaussianPrior
from adversary.problem.problem import Problem
from adversary.problem.residuals import Residuals, residuals

MEMORY_BYTES = 8 * 2**30
"""What the dense Jacobian and normal equations may take together."""

SOFT_CHI_SQUARE = 4.0
"""At which a softened network is left: what it cannot explain is no noise."""


class End(NamedTuple):
    """Where a descent ended: the place, its labels, and its cost over all equations."""

    place: Iterate
    labels: Tensor
    cost: float


@dataclass(frozen=True, kw_only=True)
class Descent:
    """What stays as it is on the way from one start, under given labels.

    Parameters
    ----------
    problem : Problem
        In float64.
    labels : Tensor
        Of the images.
    prior : GaussianPrior or None
        Of each image.
    search : Search
        Limits, seed and history.
    restart : int
        Number of the start in the history.
    iterations : int
        Accepted steps at most, of each level.
    sample : float
        Equations for every unknown pixel that are matched on the way.
    floor : float
        Chi-square of a sample of the equations at which all of them are turned to.
    scouting : bool
        Whether a batch that has several minima begins where starts in few coordinates lead.
    """

    problem: Problem
    labels: Tensor
    prior: GaussianPrior | None
    search: Search
    restart: int
    iterations: int
    sample: float
    floor: float
    scouting: bool

    @cached_property
    def targets(self) -> Tensor:
        """The labels as targets of the loss."""
        return self.problem.targets(self.labels)

    @cached_property
    def prior_term(self) -> PriorTerm:
        """What is added to the misfit."""
        return NoPriorTerm() if self.prior is None else GaussianTerm(self.prior)

    def ended(self, place: Iterate, iterations: int) -> End:
        """Return the end of so many steps, with regions put right that images have exchanged."""
        return self._ended(place if place.settled else self.steps(place, iterations))

    def refined(self, place: Iterate) -> End:
        """Return where steps on all equations end, from images that are near the true ones."""
        return self._ended(self._matched(self.problem, place, self.iterations, 0.0))

    def _ended(self, place: Iterate) -> End:
        explained = place.temperature == 1 and place.chi_square < self.floor
        several = any(same_label_pairs(self.labels)) and not explained
        if several and not has_relu(self.problem.model):
            equations = self._sampled(place.images, self.search.seed)
            better = resolve_swaps(self._minimiser(equations, self._options(self.floor)), place)
            if better is not place:
                place = self.steps(better, self.iterations)
        equations_matched = sum(g.numel() for g in self.problem.gradient.values())
        cost = equations_matched * place.chi_square + self.prior_term.value(place.images)
        return End(place, self.labels, cost if math.isfinite(cost) else math.inf)

    def steps(self, place: Iterate, iterations: int) -> Iterate:
        """Return where so many steps a level lead, from where others have ended."""
        if not len(place.residual) and self._has_several_minima():
            place = Iterate(self._scouted(place.images), place.residual)
        if has_relu(self.problem.model):
            place = self._through_soft_networks(place, iterations)
        place = self._matched(self.problem, place, iterations, self.floor)
        if place.temperature == 1 or place.chi_square < self.floor:  # else the last digits
            place = self._matched(self.problem, place, iterations, 0.0)  # do not count yet
        return place

    def _matched(self, level: Problem, place: Iterate, iterations: int, target: float) -> Iterate:
        """Match a sample of the equations of a level down to a target, or all of them."""
        equations = residuals(level, self.targets, self._sample, self.search.seed)
        if not target:
            equations = equations.completed()
        equations = equations.calibrated(place.images, self.search.seed, client=self.problem)
        residual = equations(place.images)
        kept = place.temperature if level is self.problem and target else 1.0
        start = Iterate(place.images, residual, max(kept, float(residual.square().mean())))
        options = DescentOptions(iterations=iterations, target=target, restart=self.restart)
        return self._minimiser(equations, options).minimise(start)

    def _through_soft_networks(self, place: Iterate, iterations: int) -> Iterate:
        """Approach a ReLU network through softplus ones, until its units in doubt are solved for.

        Where that suits; the update itself is matched afterwards in any case.
        """
        for sharpness in SHARPNESS:
            soft = with_softplus(self.problem, sharpness, place.images)
            place = self._matched(soft, place, iterations, SOFT_CHI_SQUARE)
            tried = self._with_activations(place)
            if tried is not None and tried.chi_square < self.floor:
                return tried
        return place

    def _with_activations(self, place: Iterate) -> Iterate | None:
        """Return where steps over pixels and switches end; None where they do not suit."""
        unknowns = int((1 + UNKNOWNS_PER_PIXEL) * place.images.numel())
        sample = self.sample * (1 + UNKNOWNS_PER_PIXEL)
        equations = residuals(self.problem, self.targets, sample, self.search.seed)
        if (
            not ActivationResiduals.suits(self.problem)
            or DenseModel.memory(unknowns, len(equations)) > MEMORY_BYTES
        ):
            return None
        equations = equations.calibrated(place.images, self.search.seed)
        options = self._options(self.floor)
        return solve_activations(equations, place, self.prior_term, self.search, options)

    def _scouted(self, images: Tensor) -> Tensor:
        """Return where the starts in few coordinates end."""
        assert self.prior is not None
        seed = self.search.seed + self.restart
        return multistart(self._sampled(images, seed), self.prior, self.search, seed)

    def _has_several_minima(self) -> bool:
        """Whether the batch may have several minima, and starts in few coordinates suit it."""
        smooth = not has_relu(self.problem.model) and math.isfinite(self._sample)
        return self.scouting and has_repeated_labels(self.labels) and smooth

    def _sampled(self, images: Tensor, seed: int) -> Residuals:
        """Return a sample of the equations, in units of the noise near the images."""
        return residuals(self.problem, self.targets, self.sample, seed).calibrated(images, seed)

    def _options(self, target: float) -> DescentOptions:
        return DescentOptions(iterations=self.iterations, target=target, restart=self.restart)

    def _minimiser(
        self, equations: Residuals, options: DescentOptions
    ) -> LevenbergMarquardt[Residuals, PriorTerm]:
        model = self._model(equations)
        return LevenbergMarquardt(equations, self.prior_term, model, self.search, options)

    @cached_property
    def _sample(self) -> float:
        """Equations a pixel to match on the way: all, where memory allows products alone."""
        every = residuals(self.problem, self.targets, math.inf, self.search.seed)
        return math.inf if self._model(every) is CGModel else self.sample

    def _model(self, equations: Residuals) -> ModelMaker:
        """Return the quadratic model that memory allows."""
        unknowns = math.prod(equations.problem.shape)
        sketched = min(len(equations), int(self.sample * unknowns))
        if DenseModel.memory(unknowns, sketched) > MEMORY_BYTES:
            return CGModel
        return partial(SketchedCGModel, SketchPreconditioner(self.sample))


def has_repeated_labels(labels: Tensor) -> bool:
    """Whether there are more than two images, and some of one label."""
    rows = labels.reshape(len(labels), -1)
    return len(rows) > 2 and len(rows.unique(dim=0)) < len(rows)
