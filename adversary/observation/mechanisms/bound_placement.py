"""How much each entry of a gradient tells of the images, for defences placed by the bound.

For noise of variance s_i on entry i of a gradient g(x) the Fisher information on the images has
the trace sum_i ||dg_i / dx||^2 / s_i, and the Bayesian Cramer-Rao bound on the squared error of any
attacker is at least d^2 / (trace + that of the prior) for d pixels (Chen, Guersoy and Lei, "Optimal
defenses against gradient reconstruction attacks", arXiv 2411.03746). An entry that is not sent
takes its term ||dg_i / dx||^2 from the trace and its square g_i^2 from the step.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp

from adversary.common.types import StateDict

PROBES = 16
"""Random directions by which sensitivities are estimated, to a relative error of 35 % each."""


def gradient_of_images(
    model: nn.Module, sent: StateDict, loss: Callable[[Tensor], Tensor]
) -> Callable[[Tensor], StateDict]:
    """Return the gradient by the trained weights, at those sent, as a function of images.

    Parameters
    ----------
    model : nn.Module
        The architecture; copied, and in eval mode.
    sent : dict of str to Tensor
        What was sent of its state dict.
    loss : callable
        From the outputs of a batch to its loss.
    """
    net = copy.deepcopy(model).eval()
    net.load_state_dict(sent, strict=False)
    weights = {n: p.detach() for n, p in net.named_parameters() if p.requires_grad}

    def of_weights(given: StateDict, images: Tensor) -> Tensor:
        return loss(functional_call(net, given, (images,)))

    return lambda images: grad(of_weights)(weights, images)


def squared_sensitivities(
    gradient: Callable[[Tensor], StateDict],
    images: Tensor,
    generator: torch.Generator,
    probes: int = PROBES,
) -> StateDict:
    """Return an estimate of ||dg_i / dx||^2 for each entry of a gradient, by array.

    The mean of (J v)_i^2 over directions v from N(0, I).

    Parameters
    ----------
    gradient : callable
        From images (N, C, H, W) to arrays by name; differentiable forward.
    images : Tensor
        On the device of ``gradient``.
    generator : torch.Generator
        For the directions.
    probes : int
        How many of them.
    """
    total: StateDict = {}
    for _ in range(probes):
        direction = torch.randn(images.shape, generator=generator).to(images)
        along = jvp(gradient, (images,), (direction,))[1]
        for name, value in along.items():
            total[name] = total.get(name, torch.zeros_like(value)) + value.square() / probes
    return total


def placed_levels(
    sensitivities: Mapping[str, float], sizes: Mapping[str, int], energy: float
) -> dict[str, float]:
    """Return standard deviations of noise, by array, that leave the least information.

    Of all levels s_a with sum_a n_a s_a^2 = ``energy`` those with the least trace of the Fisher
    information, sum_a n_a t_a / s_a^2: s_a^2 in proportion to the square root of t_a.

    Parameters
    ----------
    sensitivities : mapping of str to float
        t_a, the mean over an array's entries of ||dg_i / dx||^2; at least one > 0.
    sizes : mapping of str to int
        n_a, its number of entries.
    energy : float
        Expected sum of the squared noise, >= 0.
    """
    roots = {name: math.sqrt(value) for name, value in sensitivities.items()}
    total = sum(sizes[name] * root for name, root in roots.items())
    return {name: math.sqrt(energy * root / total) for name, root in roots.items()}
