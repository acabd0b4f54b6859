"""Gauss-Newton on the update, down to the noise of the observation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from adversary.attacks.base import Attack, Run
from adversary.attacks.certificates.goodness import goodness
from adversary.attacks.encgrad import EncGradInversion
from adversary.attacks.gauss_newton.descent import Descent, End, has_repeated_labels
from adversary.attacks.gauss_newton.interval_descent import interval_descent
from adversary.attacks.gauss_newton.softplus import has_relu
from adversary.attacks.gauss_newton.unmixing import Unmixed, possible_labels, unmixed
from adversary.attacks.gauss_newton.unmixing_steps import unmixed_steps
from adversary.attacks.initial_images import INITIAL_IMAGES
from adversary.attacks.most_probable import misfit_cost
from adversary.attacks.options import option
from adversary.common.results import Solution
from adversary.common.seeding import generator
from adversary.labels.candidates import likely_labels
from adversary.optim.levenberg_marquardt import Iterate
from adversary.optim.search import Search
from adversary.priors.gaussian import GaussianPrior
from adversary.problem.gradient_span import layer_gradient, with_counted_images
from adversary.problem.interval_equations import IntervalEquations, has_intervals
from adversary.problem.problem import Problem, image_prior
from adversary.problem.residuals import residuals
from adversary.problem.update_models import SingleGradient, Unrolled, UpdateModel

SEPARATION_STD = 0.3
"""Of equal images, in standard deviations of the prior."""

MIN_MOVEMENT_RMS = 0.01
"""Root mean square, in grey levels from 0 to 1, by which images move that leave their start."""


PRIORS = ("public", "smooth", "none")
GREY, ENCODINGS = "grey", "encodings"

Begun = tuple[Iterate, Descent]
"""An iterate, and the descent that goes on from it."""


@dataclass(frozen=True, kw_only=True, eq=False)
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

    Where the gradient of a layer has a rank below its outputs, its rows tell the images of a batch
    apart (:mod:`adversary.attacks.gauss_newton.unmixing`), or those of several local steps
    (:mod:`adversary.attacks.gauss_newton.unmixing_steps`), and the steps begin at these. Where they
    end above the noise, and elsewhere, one gradient of several images of one label has several
    minima. Starts in few coordinates choose
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

    SCOUT = 5
    """Steps after which candidate labels are compared, to go on with the likeliest first."""

    no_result: ClassVar[str] = "no start gave a finite residual"

    iterations: int = option(40, above=0)
    sample: float = option(4.0, above=0)
    restarts: int = option(1, above=0)
    start: str = option(GREY, choices=lambda: [*INITIAL_IMAGES, ENCODINGS])
    prior: str = option("public", choices=lambda: PRIORS)

    def prepare(self, problem: Problem) -> Problem:
        """Return the problem in float64, of as many images as the update tells."""
        return with_counted_images(problem.to(torch.float64))

    def solve(self, run: Run) -> Solution:
        """Return the end of the least cost of all starts, until one is at the noise floor."""
        ends: list[End] = []
        for restart in range(self.restarts):
            found = self._ends(run, restart)
            ends += found
            run.search.report((restart + 1) / self.restarts)
            if run.search.exhausted() or _best(found).place.chi_square < self.FLOOR:
                break
        best = _best(ends)
        if run.search.stopped == "iterations" and best.place.settled:
            run.search.stopped = "converged"
        return Solution(images=best.place.images, labels=best.labels, score=best.place.chi_square)

    def _ends(self, run: Run, restart: int) -> list[End]:
        """Return where steps end from a start, or from the mean where they do not leave it."""
        distribution, seed = self._distribution(run.problem), run.seed + restart
        start = self._start(run.problem, distribution, seed, run.search)
        found = self.descents(run, start, restart)
        moved = float((_best(found).place.images - start).square().mean()) >= MIN_MOVEMENT_RMS**2
        near = _best(found).place.chi_square < self.FLOOR
        if moved or near or self.start == "mean" or distribution is None:
            return found
        # as at plain grey under a layer norm of patches
        mean = distribution.mean.expand_as(start)
        return self.descents(run, _perturb_equal_images(mean, distribution, seed), restart)

    def descents(self, run: Run, start: Tensor, restart: int = 0) -> list[End]:
        """Return where the steps end from a start, for each of the candidate labels.

        Where the noise of the channel blurs an update several labels may seem to explain it; only
        where rounding is all the noise does reaching it end the search.

        Parameters
        ----------
        run : Run
            Of a problem in float64.
        start : Tensor
            (B, C, H, W).
        restart : int
            Number of the start in the history.
        """
        prior = self._distribution(run.problem)
        if prior is not None and has_intervals(run.problem):
            return self._within_limits(run, start, prior, restart)
        ends = self._apart(run) if not restart else []
        if ends and (run.search.exhausted() or self._enough(run, ends[0].place)):
            return ends
        likely = start.mean(0, keepdim=True) if prior is None else prior.mean
        begun = [
            (Iterate(start, start.new_empty(0)), self._descent(run, labels, prior, restart))
            for labels in likely_labels(run.problem, likely.expand_as(start))
        ]
        left = self.iterations
        if len(begun) > 1:
            begun, left = self._compared(run, begun), left - self.SCOUT
        for place, descent in begun:
            ends.append(descent.ended(place, left))
            if run.search.exhausted() or self._enough(run, ends[-1].place):
                break
        return ends

    def _apart(self, run: Run) -> list[End]:
        """Return where steps from images that a layer keeps apart end; empty where none does."""
        apart = self.unmixed(run)
        return [] if apart is None else [self.refined(run, apart)]

    def unmixed(self, run: Run) -> Unmixed | None:
        """Return the images one by one, where a layer's gradient keeps them apart."""
        prior, problem = self._distribution(run.problem), run.problem
        layer = layer_gradient(problem)
        if layer is None or prior is None or self.start != GREY:
            return None
        find = unmixed if problem.observation.steps == 1 else unmixed_steps
        return find(layer, prior, possible_labels(problem, prior), run.search)

    def refined(self, run: Run, apart: Unmixed) -> End:
        """Return where steps on the whole update end from images that were found one by one."""
        descent = self._descent(run, apart.labels, self._distribution(run.problem), 0)
        place = Iterate(apart.images, apart.images.new_zeros(1))
        near = apart.count == len(apart.images) and not has_relu(run.problem.model)
        return descent.refined(place) if near else descent.ended(place, self.iterations)

    def _within_limits(
        self, run: Run, start: Tensor, prior: GaussianPrior, restart: int
    ) -> list[End]:
        """Return where steps end for each of the candidate labels, where limits alone are told."""
        problem, ends = run.problem, []
        for labels in likely_labels(problem, prior.mean.expand(problem.shape)):
            equations = IntervalEquations(problem, problem.targets(labels), run.seed)
            place = interval_descent(
                equations,
                start,
                prior,
                iterations=self.iterations,
                search=run.search,
                restart=restart,
            )
            count, unknowns = len(equations), place.images.numel()
            misfit = place.images.new_tensor(equations.misfit(place.images))
            distance = float(prior.whiten(place.images).square().sum())
            cost = float(misfit_cost(misfit, count, unknowns)) + distance
            ends.append(End(place, labels, cost))
            if run.search.exhausted():
                break
        return ends

    def _descent(
        self, run: Run, labels: Tensor, prior: GaussianPrior | None, restart: int
    ) -> Descent:
        return Descent(
            problem=run.problem,
            labels=labels,
            prior=prior,
            search=run.search,
            restart=restart,
            iterations=self.iterations,
            sample=self.sample,
            floor=self.FLOOR,
            scouting=self.start == GREY and self.prior != "none",
        )

    def _compared(self, run: Run, begun: list[Begun]) -> list[Begun]:
        """Return where a few steps lead under each of the labels, likeliest first."""
        compared: list[Begun] = []
        for first, descent in begun:
            compared.append((descent.steps(first, self.SCOUT), descent))
            if run.search.exhausted() or self._enough(run, compared[-1][0]):
                break
        return sorted(compared, key=lambda pair: pair[0].chi_square)

    def _enough(self, run: Run, place: Iterate) -> bool:
        return not run.problem.threat.channel.noise and place.chi_square < self.FLOOR

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

    def read(self, problem: Problem) -> UpdateModel:
        """Return unrolled local training, or one gradient of one step or of several clients."""
        unrolled = problem.observation.steps > 1 and problem.observation.view == "client"
        return Unrolled() if unrolled else SingleGradient()

    def notes(self, run: Run, solution: Solution) -> tuple[str, ...]:
        """Return how well the images explain the update, and what that leaves open."""
        problem, images = run.problem, solution.images
        if has_intervals(problem):
            return ()
        equations = residuals(problem, problem.targets(solution.labels), math.inf, run.seed)
        equations = equations.calibrated(images, run.seed)
        residual = equations(images)
        unknowns = math.prod(problem.shape)
        left = [goodness(equations, residual, p) for p in (0, min(unknowns, len(residual)))]
        explained = any(one.explained for one in left)
        reached = "the noise floor is reached" if explained else "above the noise floor"
        notes: tuple[str, ...] = (f"reduced chi-square {left[0].chi_square:.4g}: {reached}",)
        if has_repeated_labels(solution.labels):
            notes += ("several images of one label: others may explain the update nearly as well",)
        seen = problem.observation
        if seen.steps > math.ceil(seen.images / seen.recipe.batch_size):
            notes += ("every epoch is taken to use the images in the same order",)
        return notes


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
