"""ResNet50 for X-rays."""

from __future__ import annotations

from torch import nn

from fl_sim.models.adapt import grey_stem, without_inplace
from fl_sim.models.classifier import Classifier, Spec


def resnet50(spec: Spec) -> Classifier:
    """Return torchvision's ResNet50 (He et al. 2016), untrained: 2,048 encodings.

    Bottleneck blocks, four times ResNet18's encodings; of sizes the same holds.
    """
    from torchvision.models import ResNet

    from fl_sim.models.residual import BottleneckBlock

    spec.require_size(8)
    body = ResNet(BottleneckBlock, [3, 4, 6, 3])
    grey_stem(body, spec.channels)
    without_inplace(body)
    head = nn.Linear(body.fc.in_features, spec.outputs)
    body.fc = nn.Identity()
    return Classifier(body, head)
