"""The classifiers that a federation can train: one file each, and the registry.

Also what is done with weights: ``freezing``, ``pretrained``, ``checkpoints``. To add one: a file
with a function from :class:`Spec` to :class:`Classifier`, and a line in ``MODELS``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from fl_sim.models.adapt import batch_to_group_norm
from fl_sim.models.classifier import Classifier, ModelError, Spec
from fl_sim.models.convnet import convnet
from fl_sim.models.convnext_tiny import convnext_tiny
from fl_sim.models.densenet121 import densenet121
from fl_sim.models.efficientnet0 import efficientnet0
from fl_sim.models.efficientnet_b0 import efficientnet_b0
from fl_sim.models.lenet import lenet
from fl_sim.models.mobilenet import mobilenet
from fl_sim.models.resnet18 import resnet18
from fl_sim.models.resnet18_sigmoid import resnet18_sigmoid
from fl_sim.models.resnet50 import resnet50

__all__ = ["MODELS", "NORMS", "Classifier", "ModelError", "Spec", "build", "create"]

MODELS: dict[str, Callable[[Spec], Classifier]] = {
    "lenet": lenet,
    "convnet": convnet,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "densenet121": densenet121,
    "resnet18-sigmoid": resnet18_sigmoid,
    "mobilenet": mobilenet,
    "efficientnet0": efficientnet0,
    "efficientnet-b0": efficientnet_b0,
    "convnext-tiny": convnext_tiny,
}
NORMS = ("batch", "group")


def create(name: str, *, norm: str = "batch", seed: int = 0, **spec: Any) -> Classifier:
    """Build a classifier; further keywords are fields of :class:`Spec`. As :func:`build`."""
    return build(Spec(**{"activation": "relu", **spec, "name": name}), norm=norm, seed=seed)


def build(spec: Spec, *, norm: str = "batch", seed: int = 0) -> Classifier:
    """Build a classifier; equal arguments give equal weights, and no global seed is touched.

    Parameters
    ----------
    spec : Spec
        Which, for which images and outputs.
    norm : {"batch", "group"}
        ``group`` replaces batch normalisation by group normalisation.
    seed : int
        Seeds PyTorch's CPU generator while the weights are drawn.

    Raises
    ------
    ModelError
        If there is no such model, or it does not suit the images.
    """
    if spec.name not in MODELS:
        raise ModelError(f"model.name = {spec.name!r}: must be one of {', '.join(MODELS)}")
    if spec.channels not in (1, 3):
        raise ModelError(f"data.channels = {spec.channels}: must be 1 or 3")
    if spec.outputs < 1:
        raise ModelError(f"{spec.name}: needs at least 1 output, not {spec.outputs}")
    if norm not in NORMS:
        raise ModelError(f"model.norm = {norm!r}: must be one of {', '.join(NORMS)}")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed GPUs too
        model = MODELS[spec.name](spec)
    if norm == "group" and not batch_to_group_norm(model):
        raise ModelError(f"model.norm = 'group': {spec.name} has no batch normalisation to replace")
    return model
