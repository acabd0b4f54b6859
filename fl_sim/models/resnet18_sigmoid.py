"""The small ResNet18 with sigmoids of the gradient-inversion papers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fl_sim.models.classifier import Classifier, Spec

STEM = 64
WIDTHS = (8, 12, 16, 24)
BLOCKS = 2
POOL = 4
INITIAL_RANGE = 0.1


class SigmoidBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation, a shortcut, and sigmoids."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (B, width, H, W)."""
        inner = torch.sigmoid(self.bn1(self.conv1(x)))
        return torch.sigmoid(self.bn2(self.conv2(inner)) + self.shortcut(x))


def resnet18_sigmoid(spec: Spec) -> Classifier:
    """Return the ResNet18 of Dao and Lee, "EncGradInversion" (IEEE IoT Journal 2025).

    A 3x3 stem of 64 channels without normalisation, four stages of two blocks with only 8, 12,
    16 and 24 channels, every stride 1, then 4x4 average pooling: 24 * (image_size // 4)^2
    encodings. All parameters start uniform in [-0.1, 0.1], those of batch normalisation too. As
    in the paper the images are not normalised.
    """
    spec.require_size(POOL)
    layers: list[nn.Module] = [nn.Conv2d(spec.channels, STEM, 3, padding=1, bias=False)]
    layers.append(nn.Sigmoid())
    channels = STEM
    for width in WIDTHS:
        for _ in range(BLOCKS):
            layers.append(SigmoidBlock(channels, width))
            channels = width
    layers.append(nn.AvgPool2d(POOL))
    head = nn.Linear(channels * (spec.image_size // POOL) ** 2, spec.outputs)
    model = Classifier(nn.Sequential(*layers), head, mean=0, std=1)
    for parameter in model.parameters():
        nn.init.uniform_(parameter, -INITIAL_RANGE, INITIAL_RANGE)
    return model
