"""What the update itself says against what the attacker was told of it."""

from __future__ import annotations

import torch

from adversary.problem.problem import Problem

MAX_QUANTISED_LEVELS = 256
"""Different values up to which an array of more entries was quantised on the way."""

MIN_UNMOVED_SHARE = 0.5
"""Share of an array's entries that did not move, from which on entries were left out."""


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

    Levels are taken for Gaussian noise of their own size, which is not what they are.
    """
    seen, channel = problem.observation, problem.threat.channel
    for name in problem.gradient:
        moved = (seen.returned[name].double() - seen.sent[name].double()).flatten()
        if name in channel.observed:
            moved = moved[channel.observed[name].flatten()]
        if len(moved) < 4 * MAX_QUANTISED_LEVELS:
            continue
        if float((moved == 0).double().mean()) > MIN_UNMOVED_SHARE:
            return True
        # Levels are equal but for the rounding of the weights they were added to.
        coarse = moved / moved.abs().max().clamp_min(1e-30)
        if len(torch.unique((coarse * 2**18).round())) <= MAX_QUANTISED_LEVELS:
            return True
    return False


def _contradicts_recipe(problem: Problem) -> bool:
    """Return whether the counters of batch normalisation tell another number of steps."""
    seen = problem.observation
    if seen.view != "client" or seen.recipe.batch_norm != "train":
        return False
    counted = {
        round(float(seen.returned[name]) - float(seen.sent[name]))
        for name in seen.returned.keys() & seen.sent.keys()
        if name.endswith("num_batches_tracked")
    }
    return bool(counted - {0, seen.steps})
