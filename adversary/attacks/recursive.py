"""Images from the inputs of every layer, from the head down."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from adversary import labels
from adversary.attacks.base import Attack, AttackError, notes_on, positive
from adversary.image_factors import factors
from adversary.layer_graph import LayerGraph
from adversary.least_deviations import Explained, explain
from adversary.optimise import Limits, Progress, Search
from adversary.peeling import Known, PeelError, Peeling
from adversary.priors import GaussianPrior
from adversary.problem import Problem
from adversary.readings import OneGradient
from adversary.reconstruction import Reconstruction
from adversary.residuals import residuals
from adversary.smoothness import smooth_prior
from adversary.sparse_jacobian import SparseJacobian

MEMORY_BYTES = 8 * 2**30
"""What the normal equations of an image may take."""

FITTING = 0.1
"""Relative mismatch of layers up to which those below the rest are trusted."""

MISTAKEN = 0.3
"""Relative mismatch of layers from which on there is nothing to find."""

ENOUGH = (0.75, 2.0)
"""Values of units that are on, for every pixel, that images are of at first and in the end."""

NARROW, FEW = 0.25, 12
"""Share of an image that a value may depend on, and steps at most where one depends on more."""

EFFORT = 2.5e6
"""Values times pixels up to which those of more channels are used after the first."""

SAMPLE = 4.0
"""Entries of the update for every pixel at which the images are checked in the end."""


class Recursive(Attack):
    """What each layer was given, from the head down, and the images from the first one that tells.

    For ReLU networks and one gradient. A layer's inputs follow by linear equations from the
    gradient of its weights and the errors at its outputs, and these errors from the inputs of the
    layer above, which say what units are on (:mod:`adversary.peeling`). Nothing is searched for,
    so that neither depth nor kinks matter; a ResNet18 takes a second, a DenseNet121 five. The
    lowest layers that fit what is known above them give the images, through what lies before
    them, as the least absolute deviations from their outputs
    (:mod:`adversary.least_deviations`), most probable under public X-rays or, without any, smooth
    ones. Labels need not be known.

    Several images are told apart where the head has one output or two under softmax, images times
    positions of the last layer before its mean are few
    (:data:`adversary.switch_patterns.MOST`; a ResNet has one position at 32 x 32, four at 64 x
    64), and every layer has more weights to a channel than images times positions. In densely
    connected networks thresholds must be 0, too, as before training.

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

    def __init__(self, *, iterations: int = 80) -> None:
        positive(self, iterations=iterations)
        self.iterations = iterations

    def run(
        self,
        problem: Problem,
        *,
        seed: int = 0,
        limits: Limits = Limits(),  # noqa: B008 (frozen)
        progress: Progress | None = None,
    ) -> Reconstruction:
        """See :meth:`adversary.attacks.base.Attack.run`."""
        self._check(problem)
        problem = problem.to(torch.float64)
        search = Search(self.name, seed, limits, progress)
        try:
            peeling = Peeling(problem)
            lowest, scales, found = self._trusted(peeling)
        except PeelError as error:
            raise AttackError(f"{self.name}: {error}") from error
        images = self._images(peeling, lowest, scales, search)
        equations = residuals(problem, problem.targets(found), SAMPLE, seed)
        residual = equations.calibrated(images, seed)(images)
        chi_square = float(residual.square().mean())
        if not math.isfinite(chi_square):
            raise AttackError(f"{self.name}: what the layers tell gives no finite images")
        return Reconstruction(
            images=images.clamp(0, 1).float().cpu(),
            labels=found.cpu(),
            score=chi_square,
            seconds=search.seconds,
            evaluations=search.evaluations,
            stopped=search.stopped,
            history=search.history,
            notes=self._notes(problem, peeling, lowest, scales, chi_square),
        )

    def _check(self, problem: Problem) -> None:
        """Refuse what is no plain gradient of images one by one."""
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
        elif _memory(problem) > MEMORY_BYTES:
            reason = f"images of {problem.shape[-2]} x {problem.shape[-1]} need too much memory"
        if reason:
            raise AttackError(f"{self.name}: {reason}")

    def _trusted(self, peeling: Peeling) -> tuple[list[Known], Tensor, Tensor]:
        """Return the lowest layers that fit those above them, each image's factor, the labels.

        Where units were mistaken the layers below them fit no more.
        """
        best: tuple[float, list[Known], Tensor, Tensor] | None = None
        reasons: list[PeelError] = []
        for level in peeling.levels:
            try:
                self._check_enough(peeling, level)
                scales, found = self._scales(peeling, level[-1])
            except PeelError as error:
                reasons.append(error)
                continue
            mismatch = peeling.mismatch(level[-1], scales)
            if best is None or mismatch < best[0]:
                best = mismatch, level, scales, found
            if mismatch < FITTING:
                break
        if best is None:
            raise reasons[0]
        if not best[0] < MISTAKEN:
            raise PeelError("noise hides which units are on")
        return best[1:]

    def _check_enough(self, peeling: Peeling, level: list[Known]) -> None:
        """Refuse layers that tell fewer values than there are pixels."""
        told = sum(k.values[0].numel() for k in level)
        pixels = math.prod(peeling.problem.shape[1:])
        if told < pixels:
            why = f": {peeling.end}" if peeling.end else ""
            raise PeelError(f"{told} values an image are told, of {pixels} pixels{why}")

    def _scales(self, peeling: Peeling, at: Known) -> tuple[Tensor, Tensor]:
        """Return each image's factor, and the labels."""
        if peeling.factor is None:
            return factors(peeling, at)
        return at.values.new_tensor([peeling.factor]), labels.recover(peeling.problem)

    def _images(
        self, peeling: Peeling, lowest: list[Known], scales: Tensor, search: Search
    ) -> Tensor:
        """Return the images, (B, C, H, W)."""
        prior = _distribution(peeling.problem)
        stages = [_Equations(peeling.graph, lowest, scales, prior.mean, n) for n in ENOUGH]
        more = stages[-1].told != stages[0].told and stages[-1].effort <= EFFORT
        stages = stages if more else stages[:1]
        found, settled = [], True
        for image, scale in enumerate(scales.tolist()):
            last = Explained(prior.mean)
            for equations in stages if math.isfinite(scale) else ():
                last = explain(
                    equations.jacobian,
                    equations.values[image : image + 1],
                    equations.on[image : image + 1],
                    prior,
                    iterations=equations.affordable(self.iterations),
                    search=search,
                    restart=image,
                    start=last.image,
                )
                if last.holds:
                    break
            found.append(last.image)
            settled = settled and last.settled
            search.report((image + 1) / len(scales))
        if settled:
            search.stopped = "converged"
        return torch.cat(found)

    def _notes(
        self,
        problem: Problem,
        peeling: Peeling,
        lowest: list[Known],
        scales: Tensor,
        chi_square: float,
    ) -> tuple[str, ...]:
        reached = (
            "the noise floor is reached" if chi_square < self.FLOOR else "above the noise floor"
        )
        hidden = int(scales.isnan().sum())
        sure = f"{hidden} of {len(scales)} images hidden by noise: the model is too sure of them"
        return (
            *([sure] if hidden else []),
            f"inputs of {len(peeling.known)} layers found, down to {lowest[0].node.name}",
            f"reduced chi-square {chi_square:.3g}: {reached}",
            *notes_on(problem, OneGradient()),
        )


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
        self, graph: LayerGraph, known: list[Known], scales: Tensor, like: Tensor, enough: float
    ) -> None:
        least = enough * like.numel()
        image = int(scales.isfinite().nonzero()[0])  # the first that is not hidden
        self.told: list[tuple[Known, int | None]] = []
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
        self._function = lambda x: joined(part(x) for part, _ in below)
        self._like = like

    @property
    def effort(self) -> float:
        """Values times pixels."""
        return self.values.shape[1] * self._like.numel()

    def affordable(self, iterations: int) -> int:
        """Return how many steps to take, fewer where a value depends on much of the image."""
        return iterations if self.jacobian.share <= NARROW else min(iterations, FEW)

    @functools.cached_property
    def jacobian(self) -> SparseJacobian:
        """Of the layers' values in the pixels of an image."""
        return SparseJacobian(self._function, self._like)


def _memory(problem: Problem) -> int:
    """Return the bytes that the normal equations of an image need, with their factor."""
    return 8 * 4 * math.prod(problem.shape[1:]) ** 2


def _distribution(problem: Problem) -> GaussianPrior:
    """Return that of the public X-rays, else of smooth images."""
    found = smooth_prior(problem.shape[1:]) if problem.prior is None else problem.prior.gaussian
    return found.to(problem.device, problem.dtype)
