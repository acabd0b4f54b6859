"""The small EfficientNet with sigmoids of the EncGradInversion paper."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fl_sim.models.classifier import Classifier, Spec

STEM = 32
STAGES = ((24, 3), (40, 5), (80, 3), (192, 5))  # (channels, kernel size), each of stride 2
LAST = 1280
REDUCTION = 4


class SqueezeExcitation(nn.Module):
    """Channels weighted by what all pixels together say (Hu et al. 2018)."""

    def __init__(self, channels: int, reduced: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, reduced, 1)
        self.up = nn.Conv2d(reduced, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighted features, of the shape of ``x``."""
        pooled = x.mean((-2, -1), keepdim=True)
        return x * torch.sigmoid(self.up(nn.functional.silu(self.down(pooled))))


def efficientnet0(spec: Spec) -> Classifier:
    """Return the EfficientNet0 of Dao and Lee, "EncGradInversion" (IEEE IoT Journal 2025).

    Cut down from EfficientNet-B0 (Tan and Le 2019): one block a stage, without expansion,
    shortcuts or batch normalisation, sigmoids instead of SiLU except within squeeze-excitation,
    and no pooling: 1280 * ceil(image_size / 32)^2 encodings. The paper's head fits 32 pixels
    alone; here it grows with the image. As in the paper the images are not normalised.
    """
    spec.require_size(8)
    layers: list[nn.Module] = [
        nn.Conv2d(spec.channels, STEM, 3, stride=2, padding=1, bias=False),
        nn.Sigmoid(),
    ]
    channels = STEM
    for width, kernel in STAGES:
        layers += [
            nn.Conv2d(channels, channels, kernel, 2, kernel // 2, groups=channels, bias=False),
            nn.Sigmoid(),
            SqueezeExcitation(channels, channels // REDUCTION),
            nn.Conv2d(channels, width, 1, bias=False),
        ]
        channels = width
    layers += [nn.Conv2d(channels, LAST, 1, bias=False), nn.Sigmoid()]
    features = LAST * math.ceil(spec.image_size / 32) ** 2
    return Classifier(nn.Sequential(*layers), nn.Linear(features, spec.outputs), mean=0, std=1)
