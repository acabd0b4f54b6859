"""From a smooth relative of a ReLU network to the network itself."""

from __future__ import annotations

import copy
import dataclasses

from torch import nn

from adversary.problem import Problem

SHARPNESS = (30.0, 100.0, 300.0, 1e3, 3e3, 1e4)
"""Of the softplus, in turn; log(1 + exp(beta x))/beta is within log(2)/beta of a ReLU."""


def has_kinks(model: nn.Module) -> bool:
    """Return whether units of the model switch, so that its gradient jumps in the images."""
    return any(type(m) is nn.ReLU for m in model.modules())


def softened(problem: Problem, beta: float) -> Problem:
    """Return the problem with every ReLU replaced by a softplus of sharpness ``beta``, > 0.

    The weight gradient of a ReLU network jumps where a unit switches, and no derivative tells in
    which direction the jump lies; the softplus network has the same parameters and a smooth
    gradient that tends to it as ``beta`` grows.
    """
    model = copy.deepcopy(problem.model)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.ReLU:
                setattr(module, name, nn.Softplus(beta=beta))
    return dataclasses.replace(problem, model=model)
