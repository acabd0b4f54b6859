"""The classifiers that a federation can train: one file each, and the registry.

Also what is done with weights: ``freezing``, ``pretrained``, ``checkpoints``. To add one: a file
with a function from :class:`Spec` to :class:`Classifier`, and a line in ``MODELS``.
"""

from __future__ import annotations

from collections.abc import Callable

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

__all__ = ["MODELS", "NORMS", "Classifier", "ModelError", "Spec", "create"]

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


def create(
    name: str,
    *,
    channels: int,
    image_size: int,
    outputs: int,
    activation: str = "relu",
    norm: str = "batch",
    seed: int = 0,
) -> Classifier:
    """Build a classifier; equal arguments give equal weights, and no global seed is touched.

    Parameters
    ----------
    name : str
        A key of :data:`MODELS`.
    channels : {1, 3}
        Channels of the images.
    image_size : int
        Height and width of the images in pixels.
    outputs : int
        Number of classes (cross-entropy) or of labels (binary cross-entropy), >= 1.
    activation : str
        Activation of ``convnet``; the other architectures bring their own.
    norm : {"batch", "group"}
        ``group`` replaces batch normalisation by group normalisation.
    seed : int
        Seeds PyTorch's CPU generator while the weights are drawn.

    Raises
    ------
    ModelError
        If there is no such model, or it does not suit the images.
    """
    if name not in MODELS:
        raise ModelError(f"model.name = {name!r}: must be one of {', '.join(MODELS)}")
    if channels not in (1, 3):
        raise ModelError(f"data.channels = {channels}: must be 1 or 3")
    if outputs < 1:
        raise ModelError(f"{name}: needs at least 1 output, not {outputs}")
    if norm not in NORMS:
        raise ModelError(f"model.norm = {norm!r}: must be one of {', '.join(NORMS)}")
    spec = Spec(
        name=name, channels=channels, image_size=image_size, outputs=outputs, activation=activation
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed GPUs too
        model = MODELS[name](spec)
    if norm == "group" and not batch_to_group_norm(model):
        raise ModelError(f"model.norm = 'group': {name} has no batch normalisation to replace")
    return model
