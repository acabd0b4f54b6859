"""First weights that are not random."""

from __future__ import annotations

from pathlib import Path

import torch

from adversary.common.types import StateDict
from fl_sim.models import Classifier, ModelError, checkpoints
from fl_sim.models.checkpoints import CheckpointError

IMAGENET = "imagenet"

_TORCHVISION = {
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "densenet121": "densenet121",
    "efficientnet-b0": "efficientnet_b0",
    "convnext-tiny": "convnext_tiny",
}
NORMALISATION = 0.449, 0.226
"""What ImageNet's models were trained on, (x - mean) / std, as one number for grey X-rays."""


def load_pretrained(weights: str, name: str, model: Classifier) -> None:
    """Give ``model`` its first weights, in place.

    Parameters
    ----------
    weights : str
        Empty: those that it has. ``imagenet``: torchvision's, for all but the head, with images
        normalised as there. Else the path of a checkpoint or a run's folder, for all arrays, or
        for all but the head where it was trained on another number of outputs.
    name : str
        Which architecture it is, a key of :data:`fl_sim.models.MODELS`.

    Raises
    ------
    ModelError
        In one line, if there are no such weights, they cannot be had, or they do not fit.
    """
    if not weights:
        return
    try:
        if weights == IMAGENET:
            checkpoints.load_into(model, _imagenet(name), head=False)
            model.mean, model.std = NORMALISATION
        else:
            state = checkpoints.read(Path(weights).expanduser())
            same = checkpoints.outputs(state) == model.head.out_features
            checkpoints.load_into(model, state, head=same)
    except CheckpointError as error:
        raise ModelError(f"model.weights = {weights!r}: {error}") from error


def _imagenet(name: str) -> StateDict:
    if name not in _TORCHVISION:
        raise ModelError(
            f"model.weights = '{IMAGENET}': {name} has none; those that have are "
            f"{', '.join(_TORCHVISION)}"
        )
    from torchvision.models import get_model_weights  # slow to import

    wanted = get_model_weights(_TORCHVISION[name])["DEFAULT"]
    try:
        return dict(wanted.get_state_dict(progress=False, check_hash=True))
    except (OSError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise ModelError(
            f"model.weights = '{IMAGENET}': {wanted.url} could not be downloaded ({reason}); put "
            f"the file into {folder}, or give the path of a checkpoint"
        ) from error
