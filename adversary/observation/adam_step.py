r"""What one step of Adam tells of the gradient behind it.

From moments of zero the first step moves a weight by lr g / (|g| + epsilon), which is the sign
of g but for the constant that keeps the division safe. What is missing to a whole step of lr is
epsilon / (|g| + epsilon) of it, so entries that are small enough for that to be above the
rounding of the weights are told in full; of larger ones their sign, and that they are larger.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from adversary.common.types import StateDict
from adversary.observation.recipe import ADAM_EPSILON

RESOLVED_ERROR = 0.1
"""Relative error up to which an entry counts as told."""

FLOAT32_STEP_ERROR = 1e-7
"""Relative error of a step in float32, beside the rounding of the weights."""


def largest_resolved_gradient(error: float) -> float:
    """Return the largest entry of a gradient that a step resolves to :data:`RESOLVED_ERROR`.

    Parameters
    ----------
    error : float
        Standard deviation of an entry of the step, in units of the learning rate.
    """
    return RESOLVED_ERROR * ADAM_EPSILON / max(error, FLOAT32_STEP_ERROR)


def error_amplification(size: float) -> float:
    """Return by how much more than in the step an error is in a gradient of that size."""
    return (size + ADAM_EPSILON) ** 2 / ADAM_EPSILON


def gradient_from_adam_step(
    steps: StateDict, errors: Mapping[str, float]
) -> tuple[StateDict, dict[str, Tensor]]:
    """Return the gradient that first steps tell, and where they tell no more than a bound.

    Parameters
    ----------
    steps : dict of str to Tensor
        (sent - returned) / lr by parameter, float64, in [-1, 1] but for rounding.
    errors : mapping of str to float
        Standard deviation of an entry of each.

    Returns
    -------
    dict of str to Tensor
        The gradients, weight decay included, at most :func:`largest_resolved_gradient`.
    dict of str to Tensor
        1 where the entry is at least the one returned, -1 where it is at most that, 0 where it
        is told.
    """
    gradient, beyond = {}, {}
    for name, step in steps.items():
        most = largest_resolved_gradient(errors[name])
        size = step.abs().clamp(max=most / (most + ADAM_EPSILON))
        gradient[name] = ADAM_EPSILON * size / (1 - size) * step.sign()
        beyond[name] = step.sign() * (size < step.abs())
    return gradient, beyond
