"""From an update to a gradient (one-gradient reading)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from adversary.common.types import StateDict
from adversary.observation.observation import Observation, ObservationError


def total_step_weights(rates: Sequence[float], momentum: float) -> float:
    """Return by how much steps of SGD at these rates move a weight under gradients of 1.

    With ``v_t = momentum v_{t-1} + g_t`` and ``w -= rate_t v_t``; without momentum it is the sum
    of the rates.
    """
    velocity = moved = 0.0
    for rate in rates:
        velocity = momentum * velocity + 1
        moved += rate * velocity
    return moved


def total_step_size(observation: Observation) -> float:
    """Return by how much of a weight the update moves for a mean gradient of 1.

    For Adam, whose steps do not grow with the gradient, for a mean step of 1.
    """
    recipe = observation.recipe
    if recipe.update == "gradient":
        return 1.0
    rates = recipe.rates(observation.steps)
    return sum(rates) if recipe.optimizer == "adam" else total_step_weights(rates, recipe.momentum)


def mean_gradient(observation: Observation, parameters: Iterable[str]) -> StateDict:
    """Return the mean gradient of the client's loss that its update tells, in float64.

    For one SGD step this is the exact gradient at the weights that were sent. For several it is
    their mean to first order in the learning rate: the weights are taken to stand still.
    Weight decay is subtracted at the sent weights, momentum divided out.

    Of Adam it is the mean step in units of the learning rate: no gradient, though of its sign
    where there was one step (:mod:`adversary.observation.adam_step`).

    Parameters
    ----------
    observation : Observation
        A checked observation.
    parameters : iterable of str
        Names to read (buffers left out); those that were not returned are skipped.

    Raises
    ------
    ObservationError
        If no parameter was returned, or the update is zero throughout.
    """
    recipe = observation.recipe
    names = [n for n in parameters if n in observation.returned]
    if recipe.update == "gradient":
        gradient = {n: observation.returned[n].double() for n in names}
    else:
        scale = total_step_size(observation)
        decay = recipe.weight_decay if recipe.optimizer == "sgd" else 0.0
        gradient = {}
        for name in names:
            sent = observation.sent[name].double()
            delta = sent - observation.returned[name].double()
            gradient[name] = delta / scale - decay * sent
    if not any(bool(torch.any(g != 0)) for g in gradient.values()):
        raise ObservationError(f"{observation.name}: the update changes no parameter")
    return gradient


def rounding_noise(observation: Observation, parameter: str) -> float:
    """Return the standard deviation that float rounding adds to an entry of the mean gradient.

    A client that returns weights rounds w - lr g to the spacing of floats around w, so the
    gradient read from the difference has an error of that spacing over lr: for a small update of
    large weights this is all the noise there is, and far above the rounding of g itself. The root
    mean square over the entries of the array.
    """
    value = observation.returned[parameter].detach()
    precision = torch.finfo(value.dtype)
    _, exponent = torch.frexp(value.double())
    spacing = precision.eps * torch.exp2(exponent.double() - 1).clamp_min(precision.tiny)
    uniform = float(spacing.square().mean() / 12) ** 0.5  # within one spacing
    return uniform / total_step_size(observation)
