"""How bright a client's images are, as the first layer tells it."""

from __future__ import annotations

import torch
from torch import nn

from adversary.observation.observation import Observation

MAX_MEAN = 20.0
"""Beyond it a bias did not move with the images: batch normalisation follows and takes it out."""

MIN_SHARE = 0.1
"""Of the largest change of a bias, from which on a unit counts."""


def mean_input(
    observation: Observation, model: nn.Module, image_shape: tuple[int, int, int]
) -> float | None:
    r"""Return the mean of what the first layer was given, over images and pixels.

    A unit's bias moves by :math:`-r \sum \delta` and its weights by :math:`-r \sum \delta x`; the
    ratio is a mean of the inputs :math:`x`, weighted by :math:`\delta`. Rough: weights can be of
    either sign. None without a first layer whose bias moved with them.
    """
    name = _first_layer(model, image_shape)
    names = f"{name}.weight", f"{name}.bias"
    if name is None or not all(n in observation.returned and n in observation.sent for n in names):
        return None
    matrix, bias = (observation.returned[n].double() - observation.sent[n].double() for n in names)
    counts = bias.abs() >= MIN_SHARE * bias.abs().max()
    if not bool((bias != 0).any()):
        return None
    ratios = matrix[counts].flatten(1).mean(1) / bias[counts]
    mean = float(torch.median(ratios))
    return mean if abs(mean) <= MAX_MEAN else None


def _first_layer(model: nn.Module, image_shape: tuple[int, int, int]) -> str | None:
    """Return the name of the first layer, if it has a bias and takes the images themselves."""
    channels, height, width = image_shape
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d):
            fits = layer.in_channels == channels
        elif isinstance(layer, nn.Linear):
            fits = layer.in_features == channels * height * width
        else:
            continue
        return name if fits and layer.bias is not None else None
    return None
