"""Images from the inputs of every layer, from the head down."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from adversary.attacks.base import Attack, Run
from adversary.attacks.options import option
from adversary.attacks.recursive.feature_inversion import invert_features
from adversary.attacks.recursive.image_scales import image_scales
from adversary.attacks.recursive.layer_graph import LayerGraph
from adversary.attacks.recursive.layer_recursion import (
    LayerEstimate,
    LayerRecursion,
    LayerRecursionError,
)
from adversary.attacks.recursive.least_absolute_deviations import (
    LadResult,
    least_absolute_deviations,
)
from adversary.common.results import Solution
from adversary.labels import recovery
from adversary.optim.levenberg_marquardt import DescentOptions
from adversary.optim.search import Search
from adversary.priors.gaussian import GaussianPrior
from adversary.problem.problem import Problem, image_prior
from adversary.problem.residuals import residuals
from adversary.problem.sparse_jacobian import SparseJacobian

MEMORY_BYTES = 8 * 2**30
"""What the normal equations of an image may take, before gradient steps are taken instead."""

GRADIENT_STEPS_PER_SOLVE = 4
"""Of these for each reweighted one."""

TRUSTED_MISMATCH = 0.1
"""Relative mismatch of layers up to which those below the rest are trusted."""

HOPELESS_MISMATCH = 0.3
"""Relative mismatch of layers from which on there is nothing to find."""

VALUES_PER_PIXEL = (0.75, 2.0)
"""Values of units that are on, for every pixel, that images are of at first and in the end."""

MAX_WINDOW_SHARE, MAX_WIDE_STEPS = 0.25, 12
"""Share of an image that a value may depend on, and steps at most where one depends on more."""

MAX_VALUES_TIMES_PIXELS = 2.5e6
"""Values times pixels up to which those of more channels are used after the first."""

CHECKED_ENTRIES_PER_PIXEL = 4.0
"""Entries of the update for every pixel at which the images are checked in the end."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Recursive(Attack):
    """What each layer was given, from the head down, and the images from the first one that tells.

    For ReLU networks and one gradient. A layer's inputs follow by linear equations from the
    gradient of its weights and the errors at its outputs, and these errors from the inputs of the
    layer above, which say what units are on (:mod:`adversary.attacks.recursive.layer_recursion`).
    Nothing is searched for, so that neither depth nor kinks matter; a ResNet18 takes a second, a
    DenseNet121 five. The lowest layers that fit what is known above them give the images, through
    what lies before them, as the least absolute deviations from their outputs
    (:mod:`adversary.attacks.recursive.least_absolute_deviations`), most probable under public
    X-rays or, without any, smooth ones; of images too large for that, as 224 x 224, by gradient
    steps, which come near but not to the end
    (:mod:`adversary.attacks.recursive.feature_inversion`). Labels need not be known.

    Several images are told apart where the head has one output or two under softmax, and the layers
    below, down to one that gives the images, have more weights to a channel than images times
    positions. Of the last layer before its mean these must be fewer than its channels, or, where no
    3 x 3 convolution follows, few
    (:data:`adversary.attacks.recursive.patterns_by_enumeration.MAX_COLUMNS`). In densely connected
    networks thresholds must be 0, too, as before training.

    A unit whose output is within the noise may be taken for on where it is off; all below it is
    then wrong. A small chi-square proves the images; a large one may come of a single unit that is
    almost off, too. Batch normalisation must use running statistics.

    Parameters
    ----------
    iterations : int
        Reweighted steps at most to find each image.
    """

    name: ClassVar[str] = "recursive"
    title: ClassVar[str] = "Layer by layer, from the head down"
    reference: ClassVar[str] = "Zhu and Blaschko, ICLR 2021"

    FLOOR = 2.0
    """Reduced chi-square at which the noise floor counts as reached."""

    no_result: ClassVar[str] = "what the layers tell gives no finite images"

    iterations: int = option(80, above=0)

    def prepare(self, problem: Problem) -> Problem:
        """Return the problem in float64; refuse what is no plain gradient of images one by one."""
        channel = problem.threat.channel
        norms = [m for m in problem.model.modules() if isinstance(m, _BatchNorm)]
        reason = ""
        if problem.observation.steps > 1:
            reason = "several local steps are no single gradient"
        elif math.isfinite(min(channel.clip, channel.example_clip)) or problem.beyond:
            reason = "clipping or an adaptive optimiser hides the size of the gradient"
        elif channel.observed or problem.hidden:
            reason = "entries of the update are not told"
        elif any(m.training or m.running_mean is None for m in norms):
            reason = "batch normalisation by the batch's own statistics mixes the images"
        if reason:
            raise self.failure(reason)
        return problem.to(torch.float64)

    def solve(self, run: Run) -> Solution:
        """Return the images that give the lowest layers' outputs, once these are known."""
        try:
            peeling = LayerRecursion(run.problem)
            lowest, scales, found = self._trusted(peeling)
        except LayerRecursionError as error:
            raise self.failure(str(error)) from error
        images = self._images(peeling, lowest, scales, run.search)
        targets = run.problem.targets(found)
        equations = residuals(run.problem, targets, CHECKED_ENTRIES_PER_PIXEL, run.seed)
        residual = equations.calibrated(images, run.seed)(images)
        chi_square = float(residual.square().mean())
        notes = (*_recursion_notes(peeling, lowest, scales), self._floor_note(chi_square))
        return Solution(images=images, labels=found, score=chi_square, notes=notes)

    def _trusted(self, peeling: LayerRecursion) -> tuple[list[LayerEstimate], Tensor, Tensor]:
        """Return the lowest layers that fit those above them, each image's factor, the labels.

        Where units were mistaken the layers below them fit no more.
        """
        best: tuple[float, list[LayerEstimate], Tensor, Tensor] | None = None
        reasons: list[LayerRecursionError] = []
        for level in peeling.levels:
            try:
                self._check_enough(peeling, level)
                scales, found = self._scales(peeling, level[-1])
            except LayerRecursionError as error:
                reasons.append(error)
                continue
            mismatch = peeling.mismatch(level[-1], scales)
            if best is None or mismatch < best[0]:
                best = mismatch, level, scales, found
            if mismatch < TRUSTED_MISMATCH:
                break
        if best is None:
            raise reasons[0]
        if not best[0] < HOPELESS_MISMATCH:
            raise LayerRecursionError("noise hides which units are on")
        return best[1:]

    def _check_enough(self, peeling: LayerRecursion, level: list[LayerEstimate]) -> None:
        """Refuse layers that tell fewer values than there are pixels."""
        told = sum(k.values[0].numel() for k in level)
        pixels = math.prod(peeling.problem.shape[1:])
        if told < pixels:
            why = f": {peeling.end}" if peeling.end else ""
            raise LayerRecursionError(f"{told} values an image are told, of {pixels} pixels{why}")

    def _scales(self, peeling: LayerRecursion, at: LayerEstimate) -> tuple[Tensor, Tensor]:
        """Return each image's factor, and the labels."""
        if peeling.factor is None:
            return image_scales(peeling, at)
        return at.values.new_tensor([peeling.factor]), recovery.recover(peeling.problem)

    def _images(
        self, peeling: LayerRecursion, lowest: list[LayerEstimate], scales: Tensor, search: Search
    ) -> Tensor:
        """Return the images, (B, C, H, W)."""
        prior = image_prior(peeling.problem)
        stages = [
            _Equations(peeling.graph, lowest, scales, prior.mean, n) for n in VALUES_PER_PIXEL
        ]
        found = []
        for image, scale in enumerate(scales.tolist()):
            if not math.isfinite(scale):
                found.append(LadResult(prior.mean, settled=True))
            elif _large(peeling.problem):
                found.append(self._by_gradients(stages[-1], image, prior, search))
            else:
                found.append(self._by_equations(stages, image, prior, search))
            search.report((image + 1) / len(scales))
        if all(one.settled for one in found):
            search.stopped = "converged"
        return torch.cat([one.image for one in found])

    def _by_equations(
        self, stages: list[_Equations], image: int, prior: GaussianPrior, search: Search
    ) -> LadResult:
        """Return an image by the values that are enough, and by more where these are not."""
        first, last = stages
        more = last.told != first.told and last.effort <= MAX_VALUES_TIMES_PIXELS
        found = LadResult(prior.mean)
        for equations in stages if more else stages[:1]:
            iterations = equations.affordable(self.iterations)
            found = least_absolute_deviations(
                equations.jacobian,
                *equations.of(image),
                prior,
                search=search,
                options=DescentOptions(iterations=iterations, restart=image),
                start=found.image,
            )
            if found.holds:
                break
        return found

    def _by_gradients(
        self, equations: _Equations, image: int, prior: GaussianPrior, search: Search
    ) -> LadResult:
        """Return an image that is too large for linear equations."""
        iterations = GRADIENT_STEPS_PER_SOLVE * self.iterations
        return invert_features(
            equations.function,
            *equations.of(image),
            prior,
            search=search,
            options=DescentOptions(iterations=iterations, restart=image),
        )

    def _floor_note(self, chi_square: float) -> str:
        reached = (
            "the noise floor is reached" if chi_square < self.FLOOR else "above the noise floor"
        )
        return f"reduced chi-square {chi_square:.3g}: {reached}"


def _recursion_notes(
    peeling: LayerRecursion, lowest: list[LayerEstimate], scales: Tensor
) -> Iterator[str]:
    """Yield how far down the recursion came, and of how many images."""
    if hidden := int(scales.isnan().sum()):
        yield f"{hidden} of {len(scales)} images hidden by noise: the model is too sure of them"
    yield f"inputs of {len(peeling.known)} layers found, down to {lowest[0].node.name}"
    if _large(peeling.problem):
        yield "too large for linear equations: by gradient steps"


class _Equations:
    """What the first of the known layers tell of each image, as few of them as are enough.

    All images pass the last one, but the first see less of an image each, and are simpler. Where
    one is given many layers' outputs side by side, it tells of them one by one.

    Attributes
    ----------
    told : list
        The layers, and of each how many channels; None for all.
    values, on : Tensor
        (B, m), and whether they are positive; of the others it is known that they are not.
    """

    def __init__(
        self,
        graph: LayerGraph,
        known: list[LayerEstimate],
        scales: Tensor,
        like: Tensor,
        enough: float,
    ) -> None:
        least = enough * like.numel()
        image = int(scales.isfinite().nonzero()[0])  # the first that is not hidden
        self.told: list[tuple[LayerEstimate, int | None]] = []
        count = 0
        for each in known:
            ends = itertools.accumulate(graph.parts(each.node)[:-1])
            sums = ((end, int(each.on[image, :end].sum())) for end in ends)
            channels = next((end for end, told in sums if count + told >= least), None)
            self.told.append((each, channels))
            count += int(each.on[image, :channels].sum())
            if count >= least:
                break
        below = [graph.below(each.node, channels) for each, channels in self.told]

        def joined(parts: Iterable[Tensor]) -> Tensor:
            return torch.cat([part.flatten(1) for part in parts], 1)

        self.values = joined(k.values[:, :c] for k, c in self.told) / scales[:, None]
        self.on = joined(
            k.on[:, :c] if rectified else torch.ones_like(k.on[:, :c])
            for (k, c), (_, rectified) in zip(self.told, below, strict=True)
        )
        self.function = lambda x: joined(part(x) for part, _ in below)
        self._like = like

    def of(self, image: int) -> tuple[Tensor, Tensor]:
        """Return the values of one image, (1, m), and whether they are positive."""
        return self.values[image : image + 1], self.on[image : image + 1]

    @property
    def effort(self) -> float:
        """Values times pixels."""
        return self.values.shape[1] * self._like.numel()

    def affordable(self, iterations: int) -> int:
        """Return how many steps to take, fewer where a value depends on much of the image."""
        return (
            iterations
            if self.jacobian.share <= MAX_WINDOW_SHARE
            else min(iterations, MAX_WIDE_STEPS)
        )

    @functools.cached_property
    def jacobian(self) -> SparseJacobian:
        """Of the layers' values in the pixels of an image."""
        return SparseJacobian(self.function, self._like)


def _large(problem: Problem) -> bool:
    """Whether the normal equations of an image, with their factor, take too much memory."""
    return 8 * 4 * math.prod(problem.shape[1:]) ** 2 > MEMORY_BYTES
