"""Gauss-Newton on the update, down to the noise of the observation."""

from __future__ import annotations

import math
from functools import partial
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from adversary.attacks.base import (
    Attack,
    AttackError,
    require_one_of,
    require_positive,
    update_notes,
)
from adversary.attacks.certificates.goodness import goodness
from adversary.attacks.encgrad import EncGradInversion
from adversary.attacks.gauss_newton.activation_unknowns import (
    UNKNOWNS_PER_PIXEL,
    ActivationResiduals,
    solve_activations,
)
from adversary.attacks.gauss_newton.interval_descent import interval_descent
from adversary.attacks.gauss_newton.multistart import multistart
from adversary.attacks.gauss_newton.region_swaps import resolve_swaps, same_label_pairs
from adversary.attacks.gauss_newton.softplus import SHARPNESS, has_relu, with_softplus
from adversary.attacks.initial_images import INITIAL_IMAGES
from adversary.attacks.most_probable import misfit_cost
from adversary.common.results import Reconstruction
from adversary.common.seeding import generator
from adversary.labels.candidates import likely_labels
from adversary.optim.levenberg_marquardt import Iterate, ModelMaker, levenberg_marquardt
from adversary.optim.prior_terms import GaussianTerm, NoPriorTerm, PriorTerm
from adversary.optim.quadratic_models import (
    CGModel,
    DenseModel,
    SketchedCGModel,
    SketchPreconditioner,
)
from adversary.optim.search import Limits, Progress, Search
from adversary.priors.gaussian import GaussianPrior
from adversary.problem.interval_equations import IntervalEquations, has_intervals
from adversary.problem.problem import Problem, image_prior
from adversary.problem.residuals import Residuals, residuals
from adversary.problem.update_models import SingleGradient, Unrolled

MEMORY_BYTES = 8 * 2**30
"""What the dense Jacobian and normal equations may take together."""

SEPARATION_STD = 0.3
"""Of equal images, in standard deviations of the prior."""

MIN_MOVEMENT_RMS = 0.01
"""Root mean square, in grey levels from 0 to 1, by which images move that leave their start."""


class End(NamedTuple):
    """Where a descent ended: the place, its labels, and its cost over all equations."""

    place: Iterate
    labels: Tensor
    cost: float


PRIORS = ("public", "smooth", "none")
GREY, ENCODINGS = "grey", "encodings"


class GaussNewton(Attack):
    """Levenberg-Marquardt on residuals in units of the observation's own noise.

    The most probable images: least of ||(g(x) - g*)/sigma||^2 + (x - mu)^T P (x - mu), with sigma
    of each layer the noise of the channel and the rounding of the numbers that the client sent, and
    the normal distribution (mu, P^-1) of public X-rays. The mean squared residual, a reduced
    chi-square, tells the attacker without the truth whether it has succeeded: about 1 at the noise
    floor. For smooth activations (sigmoid, GELU, SiLU) the gradient is a smooth function of the
    images and a handful of steps reach that floor. A ReLU's gradient jumps where a unit switches;
    such networks are approached through softplus networks, in units of what these leave
    unexplained, until the units in doubt can be solved for as well
    (:mod:`adversary.attacks.gauss_newton.activation_unknowns`).

    Nocedal and Wright, "Numerical Optimization" (2006), chapter 10. Weight deltas of several local
    steps are matched by unrolled local training (:func:`adversary.problem.update_models.unrolled`),
    with labels in the orders that :mod:`adversary.labels.candidates` leaves open. Far from the
    images the noise is taken as larger than it is (:mod:`adversary.optim.levenberg_marquardt`).

    One gradient of several images of one label has several minima. Starts in few coordinates choose
    among them (:mod:`adversary.attacks.gauss_newton.multistart`), and where regions of two images
    are exchanged afterwards still, they are exchanged back
    (:mod:`adversary.attacks.gauss_newton.region_swaps`).

    Parameters
    ----------
    iterations : int
        Accepted steps at most, for each sharpness of the softplus where there are ReLUs.
    sample : float
        Equations for every unknown pixel that are matched on the way, and that precondition the
        last steps, which match all of the same arrays, > 1. The largest arrays of a deep network
        are left out.
    restarts : int
        Starts from different seeds until one reaches the noise floor.
    start : str
        One of the common starts, or ``"encodings"``: phase 2 of
        :class:`~adversary.attacks.encgrad.attack.EncGradInversion`. With grey, the default, batches
        that have several minima begin where starts in few coordinates lead. Where no step leads
        away from it, the prior's mean is the next start.
    prior : {"public", "smooth", "none"}
        Normal distribution of X-rays: learned from public ones, where there are any, else
        of smooth images (:mod:`adversary.priors.smooth`); "none" is maximum likelihood.
    """

    name: ClassVar[str] = "gauss-newton"
    title: ClassVar[str] = "Gauss-Newton to the noise floor"
    reference: ClassVar[str] = "Nocedal and Wright 2006, chapter 10"

    FLOOR = 2.0
    """Reduced chi-square of a sample of the equations at which all of them are turned to."""

    SOFT = 4.0
    """That at which a softened network is left: what it cannot explain is no noise."""

    SCOUT = 5
    """Steps after which candidate labels are compared, to go on with the likeliest first."""

    def __init__(
        self,
        *,
        iterations: int = 40,
        sample: float = 4.0,
        restarts: int = 1,
        start: str = GREY,
        prior: str = "public",
    ) -> None:
        require_positive(self, iterations=iterations, restarts=restarts, sample=sample)
        require_one_of(self, "start", start, [*INITIAL_IMAGES, ENCODINGS])
        require_one_of(self, "prior", prior, PRIORS)
        self.iterations = iterations
        self.sample = sample
        self.restarts = restarts
        self.start = start
        self.prior = prior

    def run(
        self,
        problem: Problem,
        *,
        seed: int = 0,
        limits: Limits = Limits(),  # noqa: B008 (frozen)
        progress: Progress | None = None,
    ) -> Reconstruction:
        """See :meth:`adversary.attacks.base.Attack.run`."""
        problem = problem.to(torch.float64)
        search = Search(self.name, seed, limits, progress)
        distribution = self._distribution(problem)
        ends: list[End] = []
        for restart in range(self.restarts):
            start = self._start(problem, distribution, seed + restart, search)
            found = self.descents(problem, start, seed=seed, search=search, restart=restart)
            moved = (
                float((_best(found).place.images - start).square().mean()) >= MIN_MOVEMENT_RMS**2
            )
            near = _best(found).place.chi_square < self.FLOOR
            if not (moved or near or self.start == "mean") and distribution is not None:
                # as at plain grey under a layer norm of patches
                start = _perturb_equal_images(
                    distribution.mean.expand_as(start), distribution, seed + restart
                )
                found = self.descents(problem, start, seed=seed, search=search, restart=restart)
            ends += found
            search.report((restart + 1) / self.restarts)
            if search.exhausted() or _best(found).place.chi_square < self.FLOOR:
                break
        best = _best(ends)
        if not math.isfinite(best.cost):
            raise AttackError(f"{self.name}: no start gave a finite residual")
        if search.stopped == "iterations" and best.place.settled:
            search.stopped = "converged"
        return Reconstruction(
            images=best.place.images.clamp(0, 1).float().cpu(),
            labels=best.labels.cpu(),
            score=best.place.chi_square,
            seconds=search.seconds,
            evaluations=search.evaluations,
            stopped=search.stopped,
            history=search.history,
            notes=self._notes(problem, best, seed),
        )

    def descents(
        self, problem: Problem, start: Tensor, *, seed: int, search: Search, restart: int = 0
    ) -> list[End]:
        """Return where the steps end from a start, for each of the candidate labels.

        Where the noise of the channel blurs an update several labels may seem to explain it; only
        where rounding is all the noise does reaching it end the search.

        Parameters
        ----------
        problem : Problem
            In float64.
        start : Tensor
            (B, C, H, W).
        seed : int
            Of the sample of equations.
        search : Search
            Limits and history.
        restart : int
            Number of the start in the history.
        """
        prior = self._distribution(problem)
        if prior is not None and has_intervals(problem):
            return self._within_limits(problem, start, prior, seed, search, restart)
        penalty = _prior_term(prior)
        equations = sum(g.numel() for g in problem.gradient.values())

        def go_on(given: Tensor, place: Iterate, iterations: int) -> Iterate:
            return self._descend(problem, given, place, penalty, iterations, seed, search, restart)

        def enough(place: Iterate) -> bool:
            return not problem.threat.channel.noise and place.chi_square < self.FLOOR

        first = Iterate(start, start.new_empty(0))
        likely = start.mean(0, keepdim=True) if prior is None else prior.mean
        candidates = likely_labels(problem, likely.expand_as(start))
        if len(candidates) == 1:
            begun, left = [(first, candidates[0])], self.iterations
        else:
            begun, left = [], self.iterations - self.SCOUT
            for given in candidates:
                begun.append((go_on(given, first, self.SCOUT), given))
                if search.exhausted() or enough(begun[-1][0]):
                    break
            begun.sort(key=lambda pair: pair[0].chi_square)
        ends = []
        for place, given in begun:
            if not place.settled:
                place = go_on(given, place, left)
            if any(same_label_pairs(given)) and not has_relu(problem.model):
                better = self._untangled(problem, given, place, penalty, seed, search, restart)
                if better is not place:
                    place = go_on(given, better, self.iterations)
            cost = equations * place.chi_square + penalty.value(place.images)
            ends.append(End(place, given, cost if math.isfinite(cost) else math.inf))
            if search.exhausted() or enough(place):
                break
        return ends

    def _within_limits(
        self,
        problem: Problem,
        start: Tensor,
        prior: GaussianPrior,
        seed: int,
        search: Search,
        restart: int,
    ) -> list[End]:
        """Return where steps end for each of the candidate labels, where limits alone are told."""
        ends = []
        for given in likely_labels(problem, prior.mean.expand(problem.shape)):
            equations = IntervalEquations(problem, problem.targets(given), seed)
            place = interval_descent(
                equations,
                start,
                prior,
                iterations=self.iterations,
                search=search,
                restart=restart,
            )
            count, unknowns = len(equations), place.images.numel()
            misfit = place.images.new_tensor(equations.misfit(place.images))
            distance = float(prior.whiten(place.images).square().sum())
            ends.append(End(place, given, float(misfit_cost(misfit, count, unknowns)) + distance))
            if search.exhausted():
                break
        return ends

    def _untangled(
        self,
        problem: Problem,
        given: Tensor,
        place: Iterate,
        penalty: PriorTerm,
        seed: int,
        search: Search,
        restart: int,
    ) -> Iterate:
        """Return where exchanges between images of one label lead; the place if nowhere better."""
        equations = self._sampled(problem, given, place.images, seed)
        return resolve_swaps(
            equations,
            place,
            penalty,
            self._model(equations),
            iterations=self.iterations,
            search=search,
            restart=restart,
            enough=self.FLOOR,
        )

    def _descend(
        self,
        problem: Problem,
        given: Tensor,
        place: Iterate,
        penalty: PriorTerm,
        iterations: int,
        seed: int,
        search: Search,
        restart: int,
    ) -> Iterate:
        """Take steps with given labels, from where others have ended."""

        def match(level: Problem, place: Iterate, enough: float) -> Iterate:
            equations = residuals(level, problem.targets(given), sample, seed)
            if not enough:
                equations = equations.completed()
            equations = equations.calibrated(place.images, seed, client=problem)
            residual = equations(place.images)
            kept = place.temperature if level is problem and enough else 1.0
            return levenberg_marquardt(
                equations,
                Iterate(place.images, residual, max(kept, float(residual.square().mean()))),
                penalty,
                self._model(equations),
                iterations=iterations,
                search=search,
                restart=restart,
                enough=enough,
            )

        every = residuals(problem, problem.targets(given), math.inf, seed)
        sample = self._sample(every)
        if not len(place.residual) and self._ambiguous(problem, given, every):
            found = self._scouted(problem, given, place.images, seed + restart, search)
            place = Iterate(found, place.residual)
        if has_relu(problem.model):
            for sharpness in SHARPNESS:
                place = match(with_softplus(problem, sharpness, place.images), place, self.SOFT)
                tried = self._resolve(problem, given, place, penalty, seed, search, restart)
                if tried is not None and tried.chi_square < self.FLOOR:
                    place = tried
                    break
        place = match(problem, place, self.FLOOR)
        if place.temperature == 1 or place.chi_square < self.FLOOR:  # else the last digits
            place = match(problem, place, 0.0)  # do not count yet
        return place

    def _resolve(
        self,
        problem: Problem,
        given: Tensor,
        place: Iterate,
        penalty: PriorTerm,
        seed: int,
        search: Search,
        restart: int,
    ) -> Iterate | None:
        """Return where steps over pixels and switches end; None where they do not suit."""
        unknowns = int((1 + UNKNOWNS_PER_PIXEL) * place.images.numel())
        sample = self.sample * (1 + UNKNOWNS_PER_PIXEL)
        equations = residuals(problem, problem.targets(given), sample, seed)
        if (
            not ActivationResiduals.suits(problem)
            or DenseModel.memory(unknowns, len(equations)) > MEMORY_BYTES
        ):
            return None
        return solve_activations(
            equations.calibrated(place.images, seed),
            place,
            penalty,
            iterations=self.iterations,
            search=search,
            restart=restart,
            enough=self.FLOOR,
        )

    def _ambiguous(self, problem: Problem, given: Tensor, equations: Residuals) -> bool:
        """Whether the batch may have several minima, and starts in few coordinates suit it."""
        smooth = not has_relu(problem.model) and self._model(equations) is not CGModel
        wanted = self.start == GREY and self.prior != "none"
        return wanted and _has_repeated_labels(given) and smooth

    def _scouted(
        self, problem: Problem, given: Tensor, images: Tensor, seed: int, search: Search
    ) -> Tensor:
        """Return where the starts in few coordinates end."""
        prior = self._distribution(problem)
        assert prior is not None
        return multistart(self._sampled(problem, given, images, seed), prior, search, seed)

    def _sampled(self, problem: Problem, given: Tensor, images: Tensor, seed: int) -> Residuals:
        """Return a sample of the equations, in units of the noise near the images."""
        equations = residuals(problem, problem.targets(given), self.sample, seed)
        return equations.calibrated(images, seed)

    def _sample(self, equations: Residuals) -> float:
        """Return how many equations a pixel to match on the way: all that memory allows."""
        return math.inf if self._model(equations) is CGModel else self.sample

    def _model(self, equations: Residuals) -> ModelMaker:
        """Return the quadratic model that memory allows."""
        unknowns = math.prod(equations.problem.shape)
        sketched = min(len(equations), int(self.sample * unknowns))
        if DenseModel.memory(unknowns, sketched) > MEMORY_BYTES:
            return CGModel
        return partial(SketchedCGModel, SketchPreconditioner(self.sample))

    def _distribution(self, problem: Problem) -> GaussianPrior | None:
        if self.prior == "none":
            return None
        return image_prior(problem, public=self.prior == "public")

    def first_start(self, problem: Problem, seed: int) -> Tensor:
        """Return the images, (B, C, H, W), from which the attack begins by itself."""
        search = Search(self.name, seed)
        return self._start(problem, self._distribution(problem), seed, search)

    def _start(
        self, problem: Problem, distribution: GaussianPrior | None, seed: int, search: Search
    ) -> Tensor:
        if self.start == ENCODINGS:
            attack = EncGradInversion(refine=0)
            found = attack.run(problem.to(torch.float32), seed=seed, limits=search.limits)
            return found.images.to(problem.device, problem.dtype)
        x = INITIAL_IMAGES[self.start](problem, generator(seed, "start")).double()
        return _perturb_equal_images(x, distribution, seed).to(problem.device, problem.dtype)

    def _notes(self, problem: Problem, end: End, seed: int) -> tuple[str, ...]:
        if has_intervals(problem):
            return update_notes(problem, SingleGradient())
        equations = residuals(problem, problem.targets(end.labels), math.inf, seed)
        equations = equations.calibrated(end.place.images, seed)
        residual = equations(end.place.images)
        unknowns = math.prod(problem.shape)
        left = [goodness(equations, residual, p) for p in (0, min(unknowns, len(residual)))]
        explained = any(one.explained for one in left)
        reached = "the noise floor is reached" if explained else "above the noise floor"
        notes: tuple[str, ...] = (f"reduced chi-square {left[0].chi_square:.4g}: {reached}",)
        if _has_repeated_labels(end.labels):
            notes += ("several images of one label: others may explain the update nearly as well",)
        seen = problem.observation
        if seen.steps > math.ceil(seen.images / seen.recipe.batch_size):
            notes += ("every epoch is taken to use the images in the same order",)
        unrolled = seen.steps > 1 and seen.view == "client"
        return notes + update_notes(problem, Unrolled() if unrolled else SingleGradient())


def _best(ends: list[End]) -> End:
    """Return the end of the least cost."""
    return min(ends, key=lambda end: end.cost)


def _perturb_equal_images(images: Tensor, prior: GaussianPrior | None, seed: int) -> Tensor:
    """Return images moved a little where there are several: those of a label must not be equal."""
    if len(images) == 1:
        return images
    draw = generator(seed, "nudge")
    if prior is None:
        return images + 0.02 * torch.randn(images.shape, generator=draw).to(images)
    return images + SEPARATION_STD * (prior.sample(len(images), generator=draw) - prior.mean).to(
        images
    )


def _prior_term(prior: GaussianPrior | None) -> PriorTerm:
    """Return what is added to the misfit."""
    return NoPriorTerm() if prior is None else GaussianTerm(prior)


def _has_repeated_labels(labels: Tensor) -> bool:
    """Whether there are more than two images, and some of one label."""
    rows = labels.reshape(len(labels), -1)
    return len(rows) > 2 and len(rows.unique(dim=0)) < len(rows)
