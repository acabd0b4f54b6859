"""Inverting Gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from adversary.attacks.gradient_matching import GradientMatching
from adversary.attacks.options import option
from adversary.common.types import Variables
from adversary.optim.distances import cosine_distance, norm
from adversary.optim.loop import Objective
from adversary.optim.optimizers import Adam, step_decay
from adversary.priors.total_variation import total_variation
from adversary.problem.problem import Problem


@dataclass(frozen=True, kw_only=True, eq=False)
class ING(GradientMatching):
    """Cosine distance and total variation, signed Adam, boxed, step decay.

    Geiping, Bauermeister, Dröge and Moeller, "Inverting gradients: how easy is it to break
    privacy in federated learning?", NeurIPS 2020, eq. 4. Labels are those granted, else read from
    the last layer's gradient. Departure: the box is [0, 1], where this project's models take
    their images, so the total variation is of images in [0, 1] too.

    Options of all attacks that match gradients:
    :class:`~adversary.attacks.gradient_matching.GradientMatching`.

    Parameters
    ----------
    iterations : int
        Adam steps; the learning rate falls to a tenth after 3/8, 5/8 and 7/8 of them.
    lr : float
        First learning rate, > 0; a step moves every pixel by as much, being signed.
    tv : float
        Weight of the total variation, >= 0.
    """

    name: ClassVar[str] = "ing"
    title: ClassVar[str] = "Inverting gradients"
    reference: ClassVar[str] = "Geiping, Bauermeister, Dröge and Moeller, NeurIPS 2020"

    iterations: int = option(4800, above=0)
    lr: float = option(0.1, above=0)
    tv: float = option(1e-2, minimum=0)

    def method(self, seed: int) -> Adam:
        """Return a fresh signed Adam with step decay."""
        return Adam(lr=self.lr, signed=True, schedule=step_decay(self.iterations))

    def objective(self, problem: Problem) -> Objective:
        """Return 1 - cos(g, g*) + tv TV(x)."""
        targets = self.targets(problem)
        reading = self.read(problem)
        length = norm(problem.gradient)

        def score(variables: Variables) -> Tensor:
            images = variables["images"]
            found = reading.gradients(problem, variables, targets.expand(len(images), -1, -1))
            apart = cosine_distance(found, problem.gradient, length)
            return apart + self.tv * total_variation(images)

        return score

    def project(self, variables: Variables) -> None:
        """Clamp the images to [0, 1]."""
        variables["images"].clamp_(0, 1)
