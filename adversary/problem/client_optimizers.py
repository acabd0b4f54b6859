"""The optimisers of clients as pure functions, to be differentiated through.

Each starts afresh in every round, as clients do.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from adversary.common.types import StateDict
from adversary.observation.recipe import ADAM_BETAS, ADAM_EPSILON, TrainingRecipe

# (weights, gradients with weight decay, learning rate) -> weights; the moments are its own.
Step = Callable[[StateDict, StateDict, float], StateDict]


def sgd(recipe: TrainingRecipe) -> Step:
    """Return SGD with the recipe's momentum, as ``torch.optim.SGD`` has it."""
    velocity: StateDict = {}

    def step(weights: StateDict, pulls: StateDict, rate: float) -> StateDict:
        for name, pull in pulls.items():
            before = velocity.get(name)
            velocity[name] = pull if before is None else recipe.momentum * before + pull
        return {name: w - rate * velocity[name] for name, w in weights.items()}

    return step


def adam(recipe: TrainingRecipe) -> Step:
    """Return Adam (Kingma and Ba, ICLR 2015), as ``torch.optim.Adam`` has it."""
    mean: StateDict = {}
    square: StateDict = {}
    first, second = ADAM_BETAS
    steps = 0

    def step(weights: StateDict, pulls: StateDict, rate: float) -> StateDict:
        nonlocal steps
        steps += 1
        moved = {}
        for name, pull in pulls.items():
            mean[name] = first * mean.get(name, 0.0) + (1 - first) * pull
            square[name] = second * square.get(name, 0.0) + (1 - second) * pull.square()
            # A root has no derivative at 0, where entries lie that no image reaches.
            least = torch.finfo(pull.dtype).tiny
            root = (square[name] / (1 - second**steps)).clamp_min(least).sqrt()
            moved[name] = mean[name] / (1 - first**steps) / (root + ADAM_EPSILON)
        return {name: w - rate * moved[name] for name, w in weights.items()}

    return step


CLIENT_OPTIMIZERS: dict[str, Callable[[TrainingRecipe], Step]] = {"sgd": sgd, "adam": adam}
