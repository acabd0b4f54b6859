"""ConvNeXt-Tiny for X-rays."""

from __future__ import annotations

from torch import nn

from fl_sim.models.adapt import grey_stem
from fl_sim.models.classifier import Classifier, Spec


def convnext_tiny(spec: Spec) -> Classifier:
    """Return torchvision's ConvNeXt-Tiny (Liu et al. 2022), untrained: 768 encodings.

    GELU and layer normalisation throughout: nothing depends on the batch. Stochastic depth is
    left out, as in :func:`fl_sim.models.efficientnet_b0.efficientnet_b0`.
    """
    from torchvision.models import convnext_tiny as torchvision_convnext_tiny

    spec.require_size(32)
    body = torchvision_convnext_tiny(weights=None, stochastic_depth_prob=0.0)
    grey_stem(body, spec.channels)
    head = nn.Linear(body.classifier[-1].in_features, spec.outputs)
    body.classifier[-1] = nn.Identity()
    return Classifier(body, head)
