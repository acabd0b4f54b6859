"""From a smooth relative of a ReLU network to the network itself."""

from __future__ import annotations

import copy
import dataclasses

import torch
from torch import Tensor, nn

from adversary.problem.problem import Problem

SHARPNESS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3)
"""Of the softplus, in turn, in units of a layer's inputs."""


def has_relu(model: nn.Module) -> bool:
    """Return whether units of the model switch, so that its gradient jumps in the images."""
    return any(type(m) is nn.ReLU for m in model.modules())


def with_softplus(problem: Problem, sharpness: float, images: Tensor) -> Problem:
    """Return the problem with a softplus in the place of every ReLU.

    The weight gradient of a ReLU network jumps where a unit switches, and no derivative tells in
    which direction the jump lies; the softplus network has the same parameters and a smooth
    gradient that tends to it with the sharpness.

    Parameters
    ----------
    problem : Problem
        Of a network with ReLUs.
    sharpness : float
        Of log(1 + exp(beta x))/beta, > 0: beta times the root mean square of a layer's inputs.
        Layers of a deep network differ widely in that.
    images : Tensor
        (B, C, H, W), at which it is taken.
    """
    model = copy.deepcopy(problem.model)
    scales = _input_scales(model, images)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if child in scales:
                setattr(module, name, nn.Softplus(beta=sharpness / scales[child]))
    return dataclasses.replace(problem, model=model)


@torch.no_grad()
def _input_scales(model: nn.Module, images: Tensor) -> dict[nn.Module, float]:
    """Return the root mean square of what each ReLU is given, over all of its uses."""
    squares: dict[nn.Module, list[Tensor]] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        squares.setdefault(module, []).append(inputs[0].square().flatten())

    hooks = [
        module.register_forward_pre_hook(note)
        for module in model.modules()
        if type(module) is nn.ReLU
    ]
    model(images)
    for hook in hooks:
        hook.remove()
    return {m: max(float(torch.cat(s).mean()) ** 0.5, 1e-30) for m, s in squares.items()}
