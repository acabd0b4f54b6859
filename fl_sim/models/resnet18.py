"""ResNet18 for X-rays."""

from __future__ import annotations

from torch import nn

from fl_sim.models.adapt import grey_stem, without_inplace
from fl_sim.models.classifier import Classifier, Spec


def resnet18(spec: Spec) -> Classifier:
    """Return torchvision's ResNet18 (He et al. 2016), untrained: 512 encodings.

    It takes any size, but up to 32 pixels its last maps hold one value: batch normalisation in
    training mode then needs batches of at least 2.
    """
    from torchvision.models import ResNet

    from fl_sim.models.residual import ResidualBlock

    spec.require_size(8)
    body = ResNet(ResidualBlock, [2, 2, 2, 2])
    grey_stem(body, spec.channels)
    without_inplace(body)
    head = nn.Linear(body.fc.in_features, spec.outputs)
    body.fc = nn.Identity()
    return Classifier(body, head)
