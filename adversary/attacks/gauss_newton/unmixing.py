"""The images of a batch one by one, where the rank of a layer's gradient keeps them apart.

The first image is that which the span of the layer's inputs leads to from the prior's mean. Its
derivatives are taken off the columns of the gradient, which leaves the span of the others, and so
on; each is refined in the whole span, in which the errors of those before it do not count. Nothing
is drawn or tried twice, and no label is assumed: labels follow from the sign of each image's share
(:meth:`adversary.problem.gradient_span.LayerGradient.agreement`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from adversary.labels.candidates import likely_labels
from adversary.optim.levenberg_marquardt import DescentOptions, Iterate, LevenbergMarquardt
from adversary.optim.prior_terms import GaussianTerm
from adversary.optim.quadratic_models import DenseModel
from adversary.optim.search import Search
from adversary.priors.gaussian import GaussianPrior
from adversary.problem.gradient_span import LayerGradient, Span, SpanEquations
from adversary.problem.problem import Problem
from adversary.problem.residuals import Residuals

STEPS = 25
"""Accepted steps of one descent at most."""

NOISE_ROUNDS, NOISE_TOLERANCE = 4, 0.05
"""Descents, each in units of the noise at the end of the one before, and the relative change of
that at which they end."""

FITTING = 2.0
"""Mean squared residual at which an image without those before it is near enough to be refined."""


@dataclass(frozen=True)
class Unmixed:
    """The images of an update, (B, C, H, W), and their labels."""

    images: Tensor
    labels: Tensor


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
    images: list[Tensor] = []
    chosen: list[int] = []
    derivatives: list[Tensor] = []
    whole = layer.span()
    for _ in range(layer.images):
        image = _descended(layer, layer.span(derivatives), prior, prior.mean, search, FITTING)
        image = _descended(layer, whole, prior, image, search)
        fits = [layer.agreement(image, target[None]) for target in targets]
        chosen.append(max(range(len(fits)), key=fits.__getitem__))
        images.append(image)
        derivatives.append(layer.derivatives(image, targets[chosen[-1]][None]))
    return Unmixed(torch.cat(images), labels[chosen])


def _descended(
    layer: LayerGradient,
    span: Span,
    prior: GaussianPrior,
    image: Tensor,
    search: Search,
    target: float = 0.0,
) -> Tensor:
    """Return where steps from an image end, in units of the noise that a span has there."""
    clock = Search(search.name, search.seed, search.limits, started=search.started)
    for _ in range(NOISE_ROUNDS):
        equations = SpanEquations(layer, span, image, search.seed)
        residual = equations(image)
        minimiser = LevenbergMarquardt(
            cast(Residuals, equations),  # of the same interface
            GaussianTerm(prior),
            DenseModel,
            clock,
            DescentOptions(iterations=STEPS, target=target),
        )
        place = minimiser.minimise(Iterate(image, residual, float(residual.square().mean())))
        image = place.images
        changed = (equations.noise(image) / equations.scale).log().abs().max()
        if float(changed) < NOISE_TOLERANCE or place.chi_square < target or search.exhausted():
            break
    search.evaluations += clock.evaluations
    return image
