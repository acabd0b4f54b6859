"""A small convolutional network whose activation can be chosen."""

from __future__ import annotations

import math

from torch import nn

from fl_sim.models.classifier import Classifier, ModelError, Spec

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
}
WIDTHS = (32, 64, 128)


def convnet(spec: Spec) -> Classifier:
    """Return three 3x3 convolutions of stride 2 (32, 64, 128 channels), flattened for the head.

    No batch normalisation, so a gradient depends on the images of the batch one by one. The
    activation decides how smoothly it depends on them: a ReLU's gradient jumps where a unit
    switches.
    """
    spec.require_size(8)
    if spec.activation not in ACTIVATIONS:
        allowed = ", ".join(ACTIVATIONS)
        raise ModelError(f"model.activation = {spec.activation!r}: must be one of {allowed}")
    layers: list[nn.Module] = []
    channels = spec.channels
    for width in WIDTHS:
        layers += [
            nn.Conv2d(channels, width, 3, stride=2, padding=1),
            ACTIVATIONS[spec.activation](),
        ]
        channels = width
    features = channels * math.ceil(spec.image_size / 2 ** len(WIDTHS)) ** 2
    return Classifier(nn.Sequential(*layers), nn.Linear(features, spec.outputs))
