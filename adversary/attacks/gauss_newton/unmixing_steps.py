"""The images of several local steps one by one, each at the weights at which its step began.

Of an update of several steps, too, the rank of a layer's gradient keeps the images apart
(:mod:`adversary.problem.gradient_span`), and at the weights that were sent those of the first step
alone fit to the noise. Found, they tell the weights at which the second step began, and so on: the
order of the images comes out with them. Images of other steps fit nearly: they are starts for those
steps, and without their derivatives the others are easier to find. A step of plain SGD on one image
can be taken back, w = w_after + lr g(x; w), so one that nearly fits is tried as the last as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor

from adversary.attacks.gauss_newton.unmixing import (
    FITTING,
    Part,
    Unmixed,
    descended,
    part_of,
    starts,
)
from adversary.common.types import StateDict
from adversary.optim.search import Search
from adversary.priors.gaussian import GaussianPrior
from adversary.problem.gradient_span import LayerGradient
from adversary.problem.update_models import (
    before_step,
    can_be_undone,
    local_training,
)

CERTAIN, LIKELY, POSSIBLE = 0.95, 0.8, 0.25
"""Agreement of a share of the gradient with its image (:meth:`LayerGradient.agreement`) from which
it is one of the update, is near one, and may be near the last one."""

ALIKE_RMS, SAME_RMS = 0.08, 0.03
"""Root mean square difference, in grey levels from 0 to 1, up to which two images are near one
image of the update, and up to which they lead to the same place."""

STARTS = 24
"""Starts at most from which an image is sought, every other without those that are nearly known."""

UNDOINGS = 8
"""Times that an image is sought at the weights before its own step, which follow from it."""


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
    last : list of Part
        Of the last steps, the very last one first.
    near : list of Part
        Near some of the others.
    seen : list of Tensor
        Images that were tried as the last one.
    """

    layer: LayerGradient
    prior: GaussianPrior
    targets: Tensor
    search: Search
    first: list[Part] = field(default_factory=list)
    last: list[Part] = field(default_factory=list)
    near: list[Part] = field(default_factory=list)
    seen: list[Tensor] = field(default_factory=list)

    @property
    def found(self) -> list[Part]:
        """The images that were found, in the order of their steps."""
        return [*self.first, *reversed(self.last)]

    def find(self) -> bool:
        """Find one more image, of the first step that lacks one or of the last; whether it was."""
        layer = self.layer.at(self._weights())
        waiting = self._by_misfit(layer)
        self.near = []
        while waiting:
            if self._looked(layer, waiting.pop(0).image):
                self.near += waiting
                return True
        drawn = starts(self.prior, [], self.search.seed + len(self.found))
        for number, image in enumerate(islice(drawn, STARTS)):
            if self._looked(layer, self._apart(layer, image) if number % 2 else image):
                return True
            if self.search.exhausted():
                break
        return False

    def _weights(self) -> StateDict:
        """Return the weights at which the first step began of which an image is missing."""
        problem, size = self.layer.problem, self.layer.problem.observation.recipe.batch_size
        complete = self.first[: len(self.first) // size * size]
        chunks = [complete[first : first + size] for first in range(0, len(complete), size)]
        steps = [
            (torch.cat([p.image for p in step]), self.targets[[p.label for p in step]])
            for step in chunks
        ]
        return local_training(problem, problem.parameters, steps)

    def _taken(self) -> list[Tensor]:
        return [part.derivatives for part in self.found]

    def _by_misfit(self, layer: LayerGradient) -> list[Part]:
        """Return the images near others, the one that fits best here first."""
        span = layer.span(self._taken())
        return sorted(self.near, key=lambda part: layer.misfit(span, part.image))

    def _apart(self, layer: LayerGradient, start: Tensor) -> Tensor:
        """Return where a start leads without the images that are nearly known."""
        rough = [part.derivatives for part in self.near]
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
        part = part_of(layer, place.images, self.targets)
        if part.agreement >= POSSIBLE and not _among(self.seen, part.image, SAME_RMS):
            self.seen.append(part.image)
            if (last := self._undone(part)) is not None:
                self.last.append(last)
                self.seen.clear()
                return True
        if part.agreement >= LIKELY:
            self._note(part)
        return False

    def _note(self, part: Part) -> None:
        """Keep an image that is near one of the update, the best of those near the same."""
        alike = [one for one in self.near if _among([one.image], part.image, ALIKE_RMS)]
        self.near = [one for one in self.near if one not in alike]
        self.near.append(max([*alike, part], key=lambda one: one.agreement))

    def _undone(self, part: Part) -> Part | None:
        """Return the image of the last step that lacks one, near one; None where it is of another.

        Of steps of one image each, that can be taken back.
        """
        problem, seen = self.layer.problem, self.layer.problem.observation
        if seen.recipe.batch_size > 1 or not can_be_undone(problem):
            return None
        misfit, after = math.inf, self._after()
        rate = seen.recipe.rates(seen.steps)[-1 - len(self.last)]
        for _ in range(UNDOINGS):
            target = self.targets[part.label][None]
            layer = self.layer.at(before_step(problem, after, part.image, target, rate))
            span = layer.span(self._taken())
            place = descended(layer, span, self.prior, part.image, self.search, FITTING)
            part = part_of(layer, place.images, self.targets)
            if part.agreement < POSSIBLE or place.chi_square > misfit / 2:
                return None
            misfit = place.chi_square
            if misfit < FITTING:
                part = self._refined(layer, part.image)
                return part if part.agreement >= CERTAIN else None
        return None

    def _after(self) -> StateDict:
        """Return the weights at which the last step ended that lacks its image."""
        problem, seen = self.layer.problem, self.layer.problem.observation
        weights = {n: seen.returned[n].to(w) for n, w in problem.parameters.items()}
        for part, rate in zip(self.last, reversed(seen.recipe.rates(seen.steps)), strict=False):
            target = self.targets[part.label][None]
            weights = before_step(problem, weights, part.image, target, rate)
        return weights

    def _refined(self, layer: LayerGradient, image: Tensor) -> Part:
        """Return the most probable image of the whole span near one."""
        place = descended(layer, layer.span(), self.prior, image, self.search)
        return part_of(layer, place.images, self.targets)


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
    known = [(part.image, part.label) for part in steps.found]
    known[len(steps.first) : len(steps.first)] = [(prior.mean, 0)] * missing
    images, numbers = zip(*known, strict=True)
    return Unmixed(torch.cat(images), labels[list(numbers)], len(steps.found))


def _among(images: Sequence[Tensor], image: Tensor, difference: float) -> bool:
    return any(float((image - one).square().mean()) < difference**2 for one in images)
