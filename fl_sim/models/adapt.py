"""Fitting torchvision's networks, made for RGB photographs, to X-rays and to attacks."""

from __future__ import annotations

import torch
from torch import nn


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


def without_inplace(network: nn.Module) -> None:
    """Make every activation of ``network`` return a new tensor.

    Double backward, ``torch.func`` and per-sample gradients all need the values that in-place
    activations overwrite.
    """
    for module in network.modules():
        if hasattr(module, "inplace"):
            setattr(module, "inplace", False)  # noqa: B010 (nn.Module types no attributes)
