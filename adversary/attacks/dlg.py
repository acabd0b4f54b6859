"""Deep Leakage from Gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from adversary.attacks.gradient_matching import GradientMatching
from adversary.attacks.options import option
from adversary.common.seeding import generator
from adversary.common.types import Variables
from adversary.labels import recovery
from adversary.optim.distances import squared_distance
from adversary.optim.loop import Objective
from adversary.optim.optimizers import LBFGS
from adversary.problem.problem import Problem


@dataclass(frozen=True, kw_only=True, eq=False)
class DLG(GradientMatching):
    """L-BFGS on the images and, where they are not granted, on the labels jointly.

    Zhu, Liu and Han, "Deep leakage from gradients", NeurIPS 2019, algorithm 1: dummy images and
    dummy label logits minimise ||g - g*||^2. Departures: the distance is relative to ||g*||^2, the
    line search is a backtracking one (the authors' has none and often diverges), and the
    arithmetic is float64, since the distance sinks below float32's rounding.

    Options of all attacks that match gradients:
    :class:`~adversary.attacks.gradient_matching.GradientMatching`.

    Parameters
    ----------
    iterations : int
        L-BFGS steps.
    memory : int
        Curvature pairs of L-BFGS.

    Examples
    --------
    >>> DLG(iterations=100, restarts=4).name
    'dlg'
    """

    name: ClassVar[str] = "dlg"
    title: ClassVar[str] = "Deep leakage from gradients"
    reference: ClassVar[str] = "Zhu, Liu and Han, NeurIPS 2019"
    dtype: ClassVar[torch.dtype] = torch.float64

    iterations: int = option(300, above=0)
    memory: int = option(50, above=0)

    def method(self, seed: int) -> LBFGS:
        """Return a fresh L-BFGS."""
        return LBFGS(memory=self.memory)

    def variables(self, problem: Problem, seeds: list[int], *, first: int = 0) -> Variables:
        """Return images and, unless labels are granted, label logits drawn from N(0, 1)."""
        found = super().variables(problem, seeds, first=first)
        if problem.threat.labels is None:
            shape = (problem.shape[0], problem.outputs)
            drawn = [torch.randn(shape, generator=generator(s, "labels")) for s in seeds]
            found["labels"] = torch.stack(drawn).to(problem.device, problem.dtype)
        return found

    def objective(self, problem: Problem) -> Objective:
        """Return ||g - g*||^2 / ||g*||^2."""
        granted = None if problem.threat.labels is None else self.targets(problem)
        reading = self.read(problem)

        def score(variables: Variables) -> Tensor:
            images = variables["images"]
            if granted is None:
                targets = problem.head.outputs(variables["labels"])
            else:
                targets = granted.expand(len(images), -1, -1)
            return squared_distance(
                reading.gradients(problem, variables, targets), problem.gradient
            )

        return score

    def final_labels(self, problem: Problem, variables: Variables) -> Tensor:
        """Return the granted labels, or the most likely of the optimised ones."""
        if "labels" not in variables:
            return recovery.recover(problem)
        soft = problem.head.outputs(variables["labels"])
        return soft.argmax(-1) if problem.loss == "cross-entropy" else soft.round()
