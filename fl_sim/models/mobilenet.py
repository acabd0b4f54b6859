"""The small MobileNet with sigmoids of the EncGradInversion paper."""

from __future__ import annotations

import math

from torch import nn

from fl_sim.models.classifier import Classifier, Spec

STEM = 16
SEPARABLE = ((32, 2), (64, 1), (16, 1))  # (channels, stride)


def mobilenet(spec: Spec) -> Classifier:
    """Return the MobileNet of Dao and Lee, "EncGradInversion" (IEEE IoT Journal 2025).

    A shortened MobileNet-V1 (Howard et al. 2017): a 3x3 stem of stride 2, three depthwise
    separable convolutions, sigmoids, neither biases nor batch normalisation before the head, no
    pooling: 16 * ceil(image_size / 4)^2 encodings. As in the paper the images are not normalised.
    """
    spec.require_size(4)
    layers: list[nn.Module] = [
        nn.Conv2d(spec.channels, STEM, 3, stride=2, padding=1, bias=False),
        nn.Sigmoid(),
    ]
    channels = STEM
    for width, stride in SEPARABLE:
        layers += [
            nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False),
            nn.Sigmoid(),
            nn.Conv2d(channels, width, 1, bias=False),
            nn.Sigmoid(),
        ]
        channels = width
    features = channels * math.ceil(spec.image_size / 4) ** 2
    return Classifier(nn.Sequential(*layers), nn.Linear(features, spec.outputs), mean=0, std=1)
