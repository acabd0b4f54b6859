"""What the update itself says against what the attacker was told of it."""

from __future__ import annotations

import torch
from torch import Tensor

from adversary.observation.batch_statistics import counted_steps
from adversary.problem.problem import Problem

MAX_QUANTISED_LEVELS = 256
"""Different values up to which an array of more entries was quantised on the way."""

MIN_UNMOVED_SHARE = 0.5
"""Share of entries that did not move, from which on they were left out; of units that did."""


def doubts(problem: Problem) -> tuple[str, ...]:
    """Return the flags, keys of ``FLAGS``, that an update raises by itself."""
    found = []
    if _compressed(problem):
        found.append("channel-not-modelled")
    if _contradicts_recipe(problem):
        found.append("recipe-contradicted")
    return tuple(found)


def _compressed(problem: Problem) -> bool:
    """Return whether entries were left out or quantised and the likelihood does not say so.

    Levels rounded at random are taken for Gaussian noise of their own size, which is not what they
    are.
    """
    seen, channel = problem.observation, problem.threat.channel
    for name in problem.gradient.keys() - channel.intervals.keys():
        moved = seen.returned[name].double() - seen.sent[name].double()
        told = channel.observed.get(name, torch.ones_like(moved, dtype=torch.bool)).to(moved.device)
        if int(told.sum()) >= 4 * MAX_QUANTISED_LEVELS and (
            _left_out(moved, told) or _few(moved[told])
        ):
            return True
    return False


def _left_out(moved: Tensor, told: Tensor) -> bool:
    """Return whether most entries of an array did not move though their units did.

    A unit that is off for all images, of this layer or of the one before it, moves nothing: its
    row or column is no evidence.
    """
    if moved.ndim < 2:
        return False
    changed = (moved != 0) & told
    by_unit = changed.flatten(2) if moved.ndim > 2 else changed[..., None]
    rows, columns = by_unit.any(2).any(1), by_unit.any(2).any(0)
    active = told & (rows[:, None] & columns).view(*moved.shape[:2], *[1] * (moved.ndim - 2))
    if not bool(active.any()):
        return False
    return float(changed[active].double().mean()) < 1 - MIN_UNMOVED_SHARE


def _few(moved: Tensor) -> bool:
    """Return whether changes take few values; equal but for the rounding of the weights."""
    coarse = moved / moved.abs().max().clamp_min(1e-30)
    return len(torch.unique((coarse * 2**18).round())) <= MAX_QUANTISED_LEVELS


def _contradicts_recipe(problem: Problem) -> bool:
    """Return whether the counters of batch normalisation tell another number of steps."""
    seen = problem.observation
    if seen.view != "client" or seen.recipe.batch_norm != "train":
        return False
    return bool(counted_steps(seen) - {0, seen.steps})
