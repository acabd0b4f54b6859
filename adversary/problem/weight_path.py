"""Interpolate the weights between start and end of local training."""

from __future__ import annotations

import torch
from torch import Tensor

from adversary.common.types import StateDict
from adversary.observation.observation import Observation
from adversary.problem.client_optimizers import CLIENT_OPTIMIZERS
from adversary.problem.problem import Problem


def step_positions(observation: Observation) -> list[Tensor]:
    """Return the place of each local step between the weights sent (0) and those returned (1).

    That which the recipe's optimiser, momentum and learning rates lead to where all gradients
    are alike.

    Returns
    -------
    list of Tensor
        (), in [0, 1), float64, one a step, where it begins: 0 for the first.
    """
    recipe = observation.recipe
    step = CLIENT_OPTIMIZERS[recipe.optimizer](recipe)
    place, alike = {"": torch.zeros((), dtype=torch.float64)}, {"": torch.ones(())}
    begun = []
    for rate in recipe.rates(observation.steps):
        begun.append(place[""])
        place = step(place, alike, rate)
    return [at / place[""] for at in begun]


def interpolated_weights(problem: Problem, position: Tensor) -> StateDict:
    """Return the weights on the line from those sent (position 0) to those returned (1).

    Those of which nothing came back stay where they were.

    Parameters
    ----------
    problem : Problem
        What the attacker knows.
    position : Tensor
        (...), of which each weight has the leading dimensions.
    """
    returned = problem.observation.returned
    found = {}
    for name, sent in problem.parameters.items():
        at = position.to(sent).view(*position.shape, *[1] * sent.ndim)
        found[name] = sent + at * (returned.get(name, sent).to(sent) - sent)
    return found
