"""A model's loss and AUC."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adversary.observation.recipe import Loss
from fl_sim.training.local_training import LOSSES, TrainingError


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How well a model does on a set of images.

    Parameters
    ----------
    loss : float
        Mean loss an image.
    accuracy : float
        Share of right classes, or of right labels for ``bce``, in [0, 1].
    auc : float or None
        Area under the ROC curve, mean over the classes that have both positive and negative
        images; None where no class has.
    left_out : int
        Number of classes that have not.
    num_examples : int
        Number of images.
    """

    loss: float
    accuracy: float
    auc: float | None
    left_out: int
    num_examples: int


@torch.no_grad()
def evaluate(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    loss: Loss,
    *,
    device: str | torch.device,
    batch_size: int = 32,
) -> Evaluation:
    """Return how well ``model`` does on ``images``; moves it to ``device``, in eval mode.

    Parameters
    ----------
    model : nn.Module
        Maps images to logits.
    images, labels : Tensor
        As for :func:`train`.
    loss : {"cross-entropy", "bce"}
        What the model was trained with.
    device : str or torch.device
        Where to compute.
    batch_size : int
        Images at a time.

    Raises
    ------
    TrainingError
        If there are no images.
    """
    if not len(images):
        raise TrainingError("no images to evaluate on")
    model.to(device).eval()
    logits = torch.cat([model(x.to(device)).cpu() for x in images.split(batch_size)]).double()
    if loss == "cross-entropy":
        scores, truth = logits.softmax(1), F.one_hot(labels.long(), logits.shape[1])
        correct = logits.argmax(1) == labels
    else:
        scores, truth = logits, labels.long().view_as(logits)
        correct = (logits > 0) == truth.bool()
    return Evaluation(
        loss=float(LOSSES[loss](logits, labels)),
        accuracy=float(correct.double().mean()),
        auc=macro_auc(scores, truth),
        left_out=int((~has_positives_and_negatives(truth)).sum()),
        num_examples=len(images),
    )


def macro_auc(scores: Tensor, truth: Tensor) -> float | None:
    """Return the area under the ROC curve, mean over classes with both kinds of images.

    Parameters
    ----------
    scores : Tensor
        (N, C), larger for a likelier class.
    truth : Tensor
        (N, C) zeros and ones.

    Returns
    -------
    float or None
        In [0, 1]; None where no class has both kinds, or a score is not finite.
    """
    from sklearn.metrics import roc_auc_score  # slow to import

    defined = has_positives_and_negatives(truth)
    if not bool(defined.any()) or not bool(scores.isfinite().all()):
        return None
    return float(roc_auc_score(truth[:, defined].numpy(), scores[:, defined].numpy()))


def has_positives_and_negatives(truth: Tensor) -> Tensor:
    """Return a mask (C,) of the classes with positive and negative examples, of (N, C)."""
    return (truth.amax(0) == 1) & (truth.amin(0) == 0)


def any_class_has_both(labels: Tensor) -> bool:
    """Return whether any class of labels (N,) or (N, L) is that of some images and not of all."""
    return len(labels) > 0 and bool((labels != labels[0]).any())
