"""Fitting torchvision's networks, made for RGB photographs, to X-rays and to attacks."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

MOST_GROUPS = 32  # Wu and He (ECCV 2018) find it best


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


def batch_to_group_norm(network: nn.Module) -> int:
    """Replace every batch normalisation in ``network`` by a group normalisation, in place.

    Wu and He, "Group normalization", ECCV 2018: each image is normalised by itself, so batches
    may be small, hospitals may differ, and no statistics of patients are sent. The number of
    groups is the largest divisor of the channels up to :data:`MOST_GROUPS`; scale and shift are
    kept, under the same names.

    Returns
    -------
    int
        How many were replaced.
    """
    found = [(n, m) for n, m in network.named_modules() if isinstance(m, _BatchNorm)]
    for name, old in found:
        channels = old.num_features
        groups = max(d for d in range(1, MOST_GROUPS + 1) if channels % d == 0)
        new = nn.GroupNorm(groups, channels, eps=old.eps, affine=old.affine)
        new.load_state_dict(dict(old.named_parameters()))
        parent, _, own = name.rpartition(".")
        setattr(network.get_submodule(parent), own, new)
    return len(found)
