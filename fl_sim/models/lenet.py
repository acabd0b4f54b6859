"""The sigmoid LeNet of the gradient-inversion papers."""

from __future__ import annotations

import math

from torch import nn

from fl_sim.models.classifier import Classifier, Spec

WIDTH = 12


def lenet(spec: Spec) -> Classifier:
    """Return LeNet as Dao and Lee, "EncGradInversion" (IEEE IoT Journal 2025), use it.

    Four 5x5 convolutions of 12 channels with strides 2, 2, 1, 1 and padding 2, each followed by
    a sigmoid, then the linear head on 12 * ceil(image_size / 4)^2 encodings: 768 at 32 pixels.
    As in the paper the images are not normalised.
    """
    spec.require_size(4)
    layers: list[nn.Module] = []
    channels = spec.channels
    for stride in (2, 2, 1, 1):
        layers += [nn.Conv2d(channels, WIDTH, 5, stride=stride, padding=2), nn.Sigmoid()]
        channels = WIDTH
    features = WIDTH * math.ceil(spec.image_size / 4) ** 2
    return Classifier(nn.Sequential(*layers), nn.Linear(features, spec.outputs), mean=0, std=1)
