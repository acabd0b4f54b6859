"""DenseNet121 for X-rays."""

from __future__ import annotations

from torch import nn

from fl_sim.models.adapt import grey_stem, without_inplace
from fl_sim.models.classifier import Classifier, Spec


def densenet121(spec: Spec) -> Classifier:
    """Return torchvision's DenseNet121 (Huang et al. 2017), untrained: 1,024 encodings.

    The usual chest X-ray classifier since CheXNet. Below 32 pixels nothing is left to pool.
    """
    from torchvision.models import densenet121 as torchvision_densenet121

    spec.require_size(32)
    body = torchvision_densenet121(weights=None)
    grey_stem(body, spec.channels)
    without_inplace(body)
    head = nn.Linear(body.classifier.in_features, spec.outputs)
    body.classifier = nn.Identity()
    return Classifier(body, head)
