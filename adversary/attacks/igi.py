"""Improved Gradient Inversion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from adversary.attacks.gradient_matching import GradientMatching
from adversary.attacks.options import option
from adversary.common.types import Variables
from adversary.optim.distances import squared_distance
from adversary.optim.loop import Objective
from adversary.optim.optimizers import LBFGS
from adversary.priors.total_variation import total_variation
from adversary.problem.problem import Problem


@dataclass(frozen=True, kw_only=True, eq=False)
class IGI(GradientMatching):
    """Squared distance, total variation, clip and scale terms, by L-BFGS with restored labels.

    Geng, Mou, Li, Li, Beyan, Decker and Rong, "Towards general deep leakage in federated
    learning", arXiv:2110.09074, 2021; Dao and Lee (2025) call it improved gradient inversion.
    Labels are those granted, else restored zero-shot: the model's mean output on stand-in images
    turns the last layer's gradient into how often each class occurs, repeats included.

    Departures. The gradient of the last bias tells the counts without an estimate of the
    encodings; the paper's rule on the weights serves where the bias was not sent. Public X-rays,
    where there are any, stand in for the paper's noise. The distance is relative to ||g*||^2 and
    the other terms are means over pixels, so their weights are not the paper's but do not change
    with model and image size; the scale term, which pulls an image whose pixels do not span
    [0, 1] away from the truth, has the least. Line search and float64 as in
    :class:`~adversary.attacks.dlg.DLG`.

    Options of all attacks that match gradients:
    :class:`~adversary.attacks.gradient_matching.GradientMatching`.

    Parameters
    ----------
    iterations : int
        L-BFGS steps.
    tv : float
        Weight of the total variation, >= 0.
    clip : float
        Weight of the mean squared excess of pixels over [0, 1], >= 0.
    scale : float
        Weight of the mean squared difference of each image to itself stretched over [0, 1], >= 0.
    memory : int
        Curvature pairs of L-BFGS.
    """

    name: ClassVar[str] = "igi"
    title: ClassVar[str] = "Improved gradient inversion"
    reference: ClassVar[str] = "Geng et al., arXiv:2110.09074, 2021"
    dtype: ClassVar[torch.dtype] = torch.float64
    label_rule: ClassVar[str] = "zero-shot"

    iterations: int = option(600, above=0)
    tv: float = option(1e-8, minimum=0)
    clip: float = option(1e-2, minimum=0)
    scale: float = option(1e-9, minimum=0)
    memory: int = option(50, above=0)

    def method(self, seed: int) -> LBFGS:
        """Return a fresh L-BFGS."""
        return LBFGS(memory=self.memory)

    def objective(self, problem: Problem) -> Objective:
        """Return ||g - g*||^2 / ||g*||^2 + tv TV(x) + clip excess(x) + scale stretch(x)."""
        targets = self.targets(problem)
        reading = self.read(problem)

        def score(variables: Variables) -> Tensor:
            images = variables["images"]
            found = reading.gradients(problem, variables, targets.expand(len(images), -1, -1))
            return (
                squared_distance(found, problem.gradient)
                + self.tv * total_variation(images)
                + self.clip * range_penalty(images)
                + self.scale * rescale_to_unit(images)
            )

        return score


def range_penalty(images: Tensor) -> Tensor:
    """Return the mean of (x - clip(x, 0, 1))^2 over each candidate, (R,), of (R, B, C, H, W)."""
    return (images - images.clamp(0, 1)).square().flatten(1).mean(1)


def rescale_to_unit(images: Tensor) -> Tensor:
    """Return the mean of (x - (x - min)/(max - min))^2 over each candidate, extremes by image.

    Parameters
    ----------
    images : Tensor
        (R, B, C, H, W).

    Returns
    -------
    Tensor
        (R,), 0 where every image spans [0, 1] exactly; flat images count as spanning 1.
    """
    low, high = images.amin((-3, -2, -1), keepdim=True), images.amax((-3, -2, -1), keepdim=True)
    span = torch.where(high > low, high - low, 1.0)
    return (images - (images - low) / span).square().flatten(1).mean(1)
