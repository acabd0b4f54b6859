"""EfficientNet-B0 for X-rays."""

from __future__ import annotations

from torch import nn

from fl_sim.models.adapt import grey_stem, without_inplace
from fl_sim.models.classifier import Classifier, Spec


def efficientnet_b0(spec: Spec) -> Classifier:
    """Return torchvision's EfficientNet-B0 (Tan and Le 2019), untrained: 1,280 encodings.

    Dropout and stochastic depth are left out: their draws are the client's own, so an attack
    would match the gradient of another network, and a weak attack would pass for a safe client.
    """
    from torchvision.models import efficientnet_b0 as torchvision_efficientnet_b0

    spec.require_size(8)
    body = torchvision_efficientnet_b0(weights=None, stochastic_depth_prob=0.0)
    grey_stem(body, spec.channels)
    without_inplace(body)
    head = nn.Linear(body.classifier[-1].in_features, spec.outputs)
    body.classifier = nn.Identity()
    return Classifier(body, head)
