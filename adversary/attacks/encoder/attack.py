"""One image through its encoding, with forward passes alone, and the last digits by all else."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from adversary.attacks.base import Attack, Run
from adversary.attacks.certificates import Encoded
from adversary.attacks.encoder.encoding_equations import (
    EncodingEquations,
    EncodingError,
    EncodingModel,
    NormalFactor,
)
from adversary.attacks.options import option
from adversary.common.results import IterationRecord, Solution
from adversary.common.seeding import generator
from adversary.labels.candidates import likely_labels
from adversary.optim.levenberg_marquardt import DescentOptions, Iterate, LevenbergMarquardt
from adversary.optim.search import Search
from adversary.priors.gaussian import GaussianPrior
from adversary.priors.random_field import RandomField
from adversary.problem.problem import Problem, image_prior
from adversary.problem.residuals import Residuals, residuals

INITIAL_TEMPERATURE, REPAIR_TEMPERATURE = 1e3, 1.0
"""Variance of the noise that is assumed at first, in units of the misfit: a step at the level of
the misfit itself leaves where curved activations are like their tangents. Where most pixels are
right already they should stay."""

MAX_REPAIRS = 4
"""Times that the pixels in doubt of one start are sought anew, at most."""

REPAIR_NOISE = 0.05
"""Deviation of the grey levels from which they are sought a second time; it grows with each."""

MAX_FULL_STEPS = 5
"""Steps on the whole update at most."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoder(Attack):
    """One image from what the last layer is given, to float32's last digits.

    For one image of one step, whatever loss and outputs: the last layer's gradient over that of its
    bias is the encoding, and where the encoder keeps at least as many values as there are pixels
    they determine the image. Levenberg-Marquardt on them needs no gradient of a gradient: products
    with their Jacobian cost forward passes (:mod:`adversary.problem.linearised`), and as an
    encoding's value sees a window of the image, the normal equations are sparse: their factor at
    one step (:mod:`adversary.common.nested_dissection`) preconditions conjugate gradients at the
    next. The prior is a random field with the variances of public X-rays
    (:mod:`adversary.priors.random_field`); the noise is first taken as larger than it is
    (:mod:`adversary.optim.levenberg_marquardt`). Steps of the whole update follow, with the same
    preconditioner (:mod:`adversary.attacks.certificates.encoded`); its reduced chi-square, about 1
    at the noise floor, proves the image.

    Activations that are not monotone, such as GELU, have several minima, and ReLUs have kinks:
    where a start does not explain the encoding, the pixels that do not fit are sought anew, and
    then other starts are tried.

    Parameters
    ----------
    starts : int
        At most: the mean public X-ray, plain grey, and draws from the distribution of X-rays.
    iterations : int
        Steps of each start at most.
    """

    name: ClassVar[str] = "encoder"
    title: ClassVar[str] = "One image through its encoding"
    reference: ClassVar[str] = "this project"

    FLOOR = 2.0
    """Reduced chi-square at which the noise floor counts as reached."""

    no_result: ClassVar[str] = "no start gave a finite residual"

    starts: int = option(3, above=0)
    iterations: int = option(40, above=0)

    def prepare(self, problem: Problem) -> Problem:
        """Return the problem in float64."""
        return problem.to(torch.float64)

    def solve(self, run: Run) -> Solution:
        """Return the image of the encoding, moved by the whole update if it explains that."""
        problem = run.problem
        try:
            equations = EncodingEquations(problem)
        except EncodingError as error:
            raise self.failure(str(error)) from error
        prior = image_prior(problem)
        place = self._encoded(equations, prior, run.search)
        if not math.isfinite(place.chi_square):
            raise self.failure(self.no_result)
        labels = likely_labels(problem, place.images)[0]
        whole = residuals(problem, problem.targets(labels), math.inf, run.seed).completed()
        whole = whole.calibrated(place.images, run.seed)
        images, chi_square = place.images, float(whole(place.images).square().mean())
        if place.chi_square < self.FLOOR:
            images, chi_square = self._finished(whole, images, equations, prior, run.search)
        reached = "the noise floor is reached" if chi_square < self.FLOOR else "above the floor"
        return Solution(
            images=images,
            labels=labels,
            score=chi_square,
            notes=(
                f"{len(equations)} values of the encoding, of {images.numel()} pixels",
                f"reduced chi-square {chi_square:.3g}: {reached}",
            ),
        )

    def _encoded(
        self, equations: EncodingEquations, prior: GaussianPrior, search: Search
    ) -> Iterate:
        """Return the place that explains the encoding best, of as many starts as it takes."""
        best: Iterate | None = None
        for number, images in enumerate(_starts(prior, self.starts, search.seed)):
            found = self._from(images, equations, RandomField(prior), search, number)
            if best is None or found.chi_square < best.chi_square:
                best = found
            search.report((number + 1) / (self.starts + 1))
            if best.chi_square < self.FLOOR or search.exhausted():
                break
        assert best is not None
        return best

    def _from(
        self,
        images: Tensor,
        equations: EncodingEquations,
        field: RandomField,
        search: Search,
        number: int,
    ) -> Iterate:
        """Return where a start ends, with the pixels that do not fit sought anew.

        A pixel in a wrong valley spoils what sees it and little else: these pixels begin again,
        from what those around them make most probable, while the others stay.
        """
        known = NormalFactor()
        options = DescentOptions(iterations=self.iterations, target=self.FLOOR, restart=number)
        model = functools.partial(EncodingModel, known)
        descent = LevenbergMarquardt(equations, field, model, search, options)

        def descended(start: Tensor, temperature: float) -> Iterate:
            residual = equations(start)
            hot = temperature * float(residual.square().mean())
            return descent.minimise(Iterate(start, residual, hot))

        best = descended(images, INITIAL_TEMPERATURE)
        for attempt in range(MAX_REPAIRS):
            if best.chi_square < self.FLOOR or search.exhausted():
                break
            doubted = equations.in_doubt(best.residual)
            noise = torch.randn(doubted.shape, generator=generator(search.seed, "repair", attempt))
            moved = (attempt * REPAIR_NOISE * noise * doubted).to(images).view_as(images)
            start = field.filled(best.images, doubted) + moved
            found = descended(start, REPAIR_TEMPERATURE)
            best = min(best, found, key=lambda one: one.chi_square)
        return best

    def _finished(
        self,
        whole: Residuals,
        images: Tensor,
        equations: EncodingEquations,
        prior: GaussianPrior,
        search: Search,
    ) -> tuple[Tensor, float]:
        """Return the most probable image given the whole update, and its chi-square."""
        normal = equations.normal(images)
        for _ in range(MAX_FULL_STEPS):
            local = Encoded(whole, images, prior, normal)
            moved = local.moved()
            search.evaluations += local.evaluations
            reached = whole(moved)
            search.history.append(_step(search, reached))
            if moved is images:
                search.stopped = "converged"
                break
            if not _cost(moved, reached, prior) < _cost(images, local.residual, prior):
                break
            images = moved
        return images, float(whole(images).square().mean())


def _cost(images: Tensor, residual: Tensor, prior: GaussianPrior) -> float:
    """Return twice the negative logarithm of the posterior."""
    return float(residual.square().sum() + prior.whiten(images).square().sum())


def _step(search: Search, residual: Tensor) -> IterationRecord:
    """Return the next line of the history."""
    last = search.history[-1]
    chi_square = float(residual.square().mean())
    return IterationRecord(last.restart, last.iteration + 1, chi_square, search.seconds)


def _starts(prior: GaussianPrior, count: int, seed: int) -> Iterator[Tensor]:
    """Yield images, (1, C, H, W), to start from."""
    yield from [prior.mean, torch.full_like(prior.mean, 0.5)][:count]
    for number in range(2, count):
        draw = generator(seed, "start", number)
        yield prior.sample(1, generator=draw).to(prior.mean)
