"""Residual blocks for torchvision's ResNet; apart, because importing torchvision is slow."""

from __future__ import annotations

from torch import Tensor
from torchvision.models.resnet import BasicBlock, Bottleneck


class ResidualBlock(BasicBlock):
    """torchvision's basic block with a sum that is not in place, as per-sample hooks need."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (B, planes, H', W')."""
        shortcut = x if self.downsample is None else self.downsample(x)
        inner = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(inner + shortcut)


class BottleneckBlock(Bottleneck):
    """torchvision's bottleneck block with a sum that is not in place."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (B, 4 planes, H', W')."""
        shortcut = x if self.downsample is None else self.downsample(x)
        inner = self.relu(self.bn1(self.conv1(x)))
        inner = self.relu(self.bn2(self.conv2(inner)))
        return self.relu(self.bn3(self.conv3(inner)) + shortcut)
