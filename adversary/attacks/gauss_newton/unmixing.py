"""The images of a batch one by one, where the rank of a layer's gradient keeps them apart.

An image is where the span of the layer's inputs leads to, from the prior's mean, the images found
before or draws of the prior. Its derivatives are taken off the columns of the gradient, which
leaves the span of the others, and so on; each is refined in the whole span, in which the errors of
those before it do not count. No label is assumed: labels follow from the sign of each image's share
(:meth:`adversary.problem.gradient_span.LayerGradient.agreement`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from adversary.common.seeding import generator
from adversary.labels.candidates import likely_labels
from adversary.optim.levenberg_marquardt import DescentOptions, Iterate, LevenbergMarquardt
from adversary.optim.prior_terms import GaussianTerm, PriorTerm
from adversary.optim.quadratic_models import NormalMatrix, NormalModel, QuadraticModel
from adversary.optim.search import Search
from adversary.priors.gaussian import GaussianPrior
from adversary.problem.gradient_span import LayerGradient, Span, SpanEquations
from adversary.problem.problem import Problem

STEPS = 25
"""Accepted steps of one descent at most."""

NOISE_ROUNDS, NOISE_TOLERANCE = 4, 0.05
"""Descents, each in units of the noise at the end of the one before, and the relative change of
that at which they end."""

FITTING = 2.0
"""Mean squared residual at which an image without those before it is near enough to be refined."""

STUCK = 100.0
"""Mean squared residual from which on a descent has ended in another minimum."""

STARTS = 12
"""Starts at most from which an image is sought; where none leads to one, no more are sought."""


@dataclass(frozen=True)
class Unmixed:
    """The images of an update, (B, C, H, W), and their labels; the last ones are the prior's mean.

    ``count`` is the number of those that were found.
    """

    images: Tensor
    labels: Tensor
    count: int


@dataclass(frozen=True, eq=False)
class Part:
    """An image of the update, (1, C, H, W), and what it adds to a layer's gradient.

    The number of its label among those that are possible, the derivatives of
    :meth:`LayerGradient.derivatives`, and how well they agree with the gradient, in [-1, 1].
    """

    image: Tensor
    label: int
    derivatives: Tensor
    agreement: float


def possible_labels(problem: Problem, prior: GaussianPrior) -> Tensor:
    """Return the labels that an image of the update may have, (K,) or (K, C)."""
    if problem.threat.labels is None and problem.loss == "cross-entropy":
        return torch.arange(problem.outputs, device=problem.device)
    found = likely_labels(problem, prior.mean.expand(problem.shape))
    return torch.cat(found).unique(dim=0)


def unmixed(layer: LayerGradient, prior: GaussianPrior, labels: Tensor, search: Search) -> Unmixed:
    """Return the images that an update is of.

    Parameters
    ----------
    layer : LayerGradient
        Whose gradient keeps them apart.
    prior : GaussianPrior
        Of each image.
    labels : Tensor
        Those that an image may have, (K,) indices or (K, C) multi-hot.
    search : Search
        Clock and limits.
    """
    targets = layer.problem.targets(labels)
    parts: list[Part] = []
    whole = layer.span()
    while len(parts) < layer.images and not search.exhausted():
        span = layer.span([part.derivatives for part in parts])
        image = _first(layer, span, prior, [part.image for part in parts], search)
        if image is None:
            break
        image = descended(layer, whole, prior, image, search).images
        parts.append(part_of(layer, image, targets))
    missing = layer.images - len(parts)
    images = [*(part.image for part in parts), *[prior.mean] * missing]
    chosen = [*(part.label for part in parts), *[0] * missing]
    return Unmixed(torch.cat(images), labels[chosen], len(parts))


def part_of(layer: LayerGradient, image: Tensor, targets: Tensor) -> Part:
    """Return an image's part in the update, by that of the targets, (K, outputs), that agrees."""
    fits = [layer.agreement(image, target[None]) for target in targets]
    label = max(range(len(fits)), key=fits.__getitem__)
    return Part(image, label, layer.derivatives(image, targets[label][None]), fits[label])


def _first(
    layer: LayerGradient,
    span: Span,
    prior: GaussianPrior,
    found: Sequence[Tensor],
    search: Search,
) -> Tensor | None:
    """Return the image to which the first start leads that leads to any."""
    for image in islice(starts(prior, found, search.seed), STARTS):
        place = descended(layer, span, prior, image, search, FITTING)
        if place.chi_square < FITTING:
            return place.images
        if search.exhausted():
            break
    return None


def starts(prior: GaussianPrior, found: Sequence[Tensor], seed: int) -> Iterator[Tensor]:
    """Yield the prior's mean, the images that were found, and draws of the prior without end."""
    yield prior.mean
    yield from found
    draw = generator(seed, "unmixing", len(found))
    while True:
        yield prior.sample(1, generator=draw).to(prior.mean)


def _model(
    equations: SpanEquations, image: Tensor, r: Tensor, penalty: PriorTerm
) -> QuadraticModel:
    """Return the quadratic model of a span's equations, J^T J by windows of the image."""
    normal = NormalMatrix(equations.normal(image))
    found = NormalModel(normal, equations.pullback(image)(r), image, penalty)
    found.evaluations = equations.tangents
    return found


def descended(
    layer: LayerGradient,
    span: Span,
    prior: GaussianPrior,
    image: Tensor,
    search: Search,
    target: float = 0.0,
) -> Iterate:
    """Return where steps from an image end, in units of the noise that a span has there.

    Parameters
    ----------
    layer : LayerGradient
        Whose inputs count.
    span : Span
        In which they should lie.
    prior : GaussianPrior
        Of the image.
    image : Tensor
        (1, C, H, W).
    search : Search
        Clock and limits.
    target : float
        Mean squared residual at which they end, or where they are stuck far above it; with 0 they
        go on to the most probable image.
    """
    clock = Search(search.name, search.seed, search.limits, started=search.started)
    for _ in range(NOISE_ROUNDS):
        equations = SpanEquations(layer, span, image, search.seed)
        residual = equations(image)
        minimiser = LevenbergMarquardt(
            equations,
            GaussianTerm(prior),
            _model,
            clock,
            DescentOptions(iterations=STEPS, target=target),
        )
        place = minimiser.minimise(Iterate(image, residual, float(residual.square().mean())))
        image = place.images
        changed = (equations.noise(image) / equations.scale).log().abs().max()
        ended = place.chi_square < target or (target > 0 and place.chi_square > STUCK)
        if float(changed) < NOISE_TOLERANCE or ended or search.exhausted():
            break
    search.evaluations += clock.evaluations
    return place
