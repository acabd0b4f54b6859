"""The images of several local steps one by one, each at the weights at which its step began.

Of an update of several steps, too, the rank of a layer's gradient keeps the images apart
(:mod:`adversary.problem.gradient_span`), and at the weights that were sent those of the first step
alone fit to the noise. Found, they tell the weights at which the second step began, and so on: the
order of the images comes out with them. Images of other steps fit nearly: they are starts for those
steps, and without their derivatives the others are easier to find. A last step of plain SGD on one
image can be taken back, w_K-1 = w_K + lr g(x; w_K-1), so one that nearly fits is tried as the last.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from adversary.attacks.gauss_newton.unmixing import (
    FITTING,
    Unmixed,
    descended,
    starts,
)
from adversary.common.types import StateDict
from adversary.optim.search import Search
from adversary.priors.gaussian import GaussianPrior
from adversary.problem.gradient_span import LayerGradient
from adversary.problem.update_models import (
    before_last_step,
    can_be_undone,
    local_training,
)

CERTAIN, LIKELY, POSSIBLE = 0.95, 0.8, 0.25
"""Agreement of a share of the gradient with its image (:meth:`LayerGradient.agreement`) from which
it is one of the update, is near one, and may be near the last one."""

ALIKE_RMS = 0.03
"""Root mean square difference, in grey levels from 0 to 1, up to which two images are one."""

UNDOINGS = 4
"""Times that an image is sought at the weights before its own step, which follow from it."""


class Part(NamedTuple):
    """An image of the update, (1, C, H, W), its target, its derivatives and how well it agrees."""

    image: Tensor
    label: int
    derivatives: Tensor
    agreement: float


@dataclass
class _Steps:
    """What is known of the client's steps so far.

    Parameters
    ----------
    layer : LayerGradient
        At the weights that were sent.
    prior : GaussianPrior
        Of each image.
    targets : Tensor
        (K, outputs), those that an image may have.
    search : Search
        Clock and limits.
    first : list of Part
        Of the first steps, in their order.
    last : Part or None
        Of the last step.
    near : list of Tensor
        Images that are near some of the others.
    seen : list of Tensor
        Images that were tried as the last one.
    """

    layer: LayerGradient
    prior: GaussianPrior
    targets: Tensor
    search: Search
    first: list[Part] = field(default_factory=list)
    last: Part | None = None
    near: list[Tensor] = field(default_factory=list)
    seen: list[Tensor] = field(default_factory=list)

    @property
    def found(self) -> list[Part]:
        """The images that were found, in the order of their steps."""
        return [*self.first, *([] if self.last is None else [self.last])]

    def find(self) -> bool:
        """Find one more image, of the first step that lacks one or of the last; whether it was."""
        layer = self.layer.at(self._weights())
        waiting = self._by_misfit(layer)
        self.near = []
        while waiting:
            if self._looked(layer, waiting.pop(0)):
                self.near += waiting
                return True
        for image in starts(self.prior, [], self.search.seed + len(self.found)):
            if self._looked(layer, self._apart(layer, image)):
                return True
            if self.search.exhausted():
                break
        return False

    def _weights(self) -> StateDict:
        """Return the weights at which the first step began of which an image is missing."""
        problem, size = self.layer.problem, self.layer.problem.observation.recipe.batch_size
        complete = self.first[: len(self.first) // size * size]
        steps = [
            (torch.cat([p.image for p in step]), self.targets[[p.label for p in step]])
            for step in _chunks(complete, size)
        ]
        return local_training(problem, problem.parameters, steps)

    def _taken(self) -> list[Tensor]:
        return [part.derivatives for part in self.found]

    def _by_misfit(self, layer: LayerGradient) -> list[Tensor]:
        """Return the images near others, the one that fits best here first."""
        span = layer.span(self._taken())
        return sorted(self.near, key=lambda image: layer.misfit(span, image))

    def _apart(self, layer: LayerGradient, start: Tensor) -> Tensor:
        """Return where a start leads without the images that are nearly known."""
        rough = [self._part(layer, image).derivatives for image in self.near]
        if not rough or len(self.found) + len(rough) >= self.layer.images:
            return start
        span = layer.span([*self._taken(), *rough])
        return descended(layer, span, self.prior, start, self.search, FITTING).images

    def _looked(self, layer: LayerGradient, start: Tensor) -> bool:
        """Keep the image to which a start leads, and return whether it is one of the update."""
        span = layer.span(self._taken())
        place = descended(layer, span, self.prior, start, self.search, FITTING)
        if place.chi_square < FITTING:
            part = self._refined(layer, place.images)
            if part.agreement >= CERTAIN:
                self.first.append(part)
                return True
        part = self._part(layer, place.images)
        if part.agreement >= POSSIBLE and not _among(self.seen, part.image):
            self.seen.append(part.image)
            if (last := self._undone(part)) is not None:
                self.last = last
                return True
        if part.agreement >= LIKELY and not _among(self.near, part.image):
            self.near.append(part.image)
        return False

    def _undone(self, part: Part) -> Part | None:
        """Return the image of the last step near one; None where that is of another step."""
        problem = self.layer.problem
        single = problem.observation.recipe.batch_size == 1
        if self.last is not None or not single or not can_be_undone(problem):
            return None
        misfit = math.inf
        for _ in range(UNDOINGS):
            target = self.targets[part.label][None]
            layer = self.layer.at(before_last_step(problem, part.image, target))
            span = layer.span(self._taken())
            place = descended(layer, span, self.prior, part.image, self.search, FITTING)
            part = self._part(layer, place.images)
            if part.agreement < POSSIBLE or place.chi_square > misfit / 2:
                return None
            misfit = place.chi_square
            if place.chi_square < FITTING:
                part = self._refined(layer, part.image)
                return part if part.agreement >= CERTAIN else None
        return None

    def _refined(self, layer: LayerGradient, image: Tensor) -> Part:
        """Return the most probable image of the whole span near one."""
        place = descended(layer, layer.span(), self.prior, image, self.search)
        return self._part(layer, place.images)

    def _part(self, layer: LayerGradient, image: Tensor) -> Part:
        fits = [layer.agreement(image, target[None]) for target in self.targets]
        label = max(range(len(fits)), key=fits.__getitem__)
        derivatives = layer.derivatives(image, self.targets[label][None])
        return Part(image, label, derivatives, fits[label])


def unmixed_steps(
    layer: LayerGradient, prior: GaussianPrior, labels: Tensor, search: Search
) -> Unmixed:
    """Return the images of several local steps, in the order of these.

    Parameters
    ----------
    layer : LayerGradient
        Whose gradient keeps them apart, at the weights that were sent.
    prior : GaussianPrior
        Of each image.
    labels : Tensor
        Those that an image may have, (K,) indices or (K, C) multi-hot.
    search : Search
        Clock and limits.
    """
    steps = _Steps(layer, prior, layer.problem.targets(labels), search)
    while len(steps.found) < layer.images and not search.exhausted():
        if not steps.find():
            break
    missing = layer.images - len(steps.found)
    known = [(part.image, part.label) for part in steps.first]
    known += [(prior.mean, 0)] * missing
    known += [(part.image, part.label) for part in steps.found[len(steps.first) :]]
    images, numbers = zip(*known, strict=True)
    return Unmixed(torch.cat(images), labels[list(numbers)], len(steps.found))


def _chunks(parts: list[Part], size: int) -> Iterator[list[Part]]:
    for first in range(0, len(parts), size):
        yield parts[first : first + size]


def _among(images: Sequence[Tensor], image: Tensor) -> bool:
    return any(float((image - one).square().mean()) < ALIKE_RMS**2 for one in images)
