"""Fitting torchvision's networks, made for RGB photographs, to X-rays and to attacks."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

N = TypeVar("N", bound=nn.Module)


def grey_stem(network: nn.Module, channels: int) -> None:
    """Give ``network`` a first convolution for ``channels`` channels, in place.

    One channel gets the sum of the RGB weights: a grey image then gives what its RGB copy gave.
    """
    rgb = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    if channels == rgb.in_channels:
        return
    with torch.no_grad():
        rgb.weight = nn.Parameter(rgb.weight.sum(dim=1, keepdim=True))
    rgb.in_channels = channels


def with_group_norm(network: N) -> N:
    """Return ``network`` with group normalisation in place of batch normalisation.

    As opacus replaces it: at most 32 groups, no statistics, scale 1 and shift 0. A network
    without batch normalisation is returned as it is.
    """
    if not any(isinstance(module, _BatchNorm) for module in network.modules()):
        return network
    from opacus.validators import ModuleValidator  # slow to import

    return ModuleValidator.fix(network)


def without_inplace(network: nn.Module) -> None:
    """Make every activation of ``network`` return a new tensor.

    Double backward, ``torch.func`` and per-sample gradients all need the values that in-place
    activations overwrite.
    """
    for module in network.modules():
        if hasattr(module, "inplace"):
            setattr(module, "inplace", False)  # noqa: B010 (nn.Module types no attributes)
