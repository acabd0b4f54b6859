"""The clients' losses, with weights against imbalanced classes.

Both are means over the images of a batch, whatever their weights, so that every image adds its
own share to the gradient: torch's cross-entropy of class indices would divide by the sum of the
weights instead.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from adversary.observation.recipe import Loss


def mean_loss(logits: Tensor, targets: Tensor, loss: Loss, weights: Tensor | None) -> Tensor:
    """Return the mean loss of a batch, for ``bce`` over the outputs too.

    Parameters
    ----------
    logits : Tensor
        (B, C).
    targets : Tensor
        (B, C), one-hot, multi-hot or shares in [0, 1].
    loss : {"cross-entropy", "bce"}
        Softmax or sigmoid outputs.
    weights : Tensor, optional
        (C,), of each class, or for ``bce`` of the positive images of each output.
    """
    if loss == "cross-entropy":
        return functional.cross_entropy(logits, targets, weight=weights)
    return functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights)


def output_gradients(
    outputs: Tensor, targets: Tensor, loss: Loss, weights: Tensor | None
) -> Tensor:
    """Return the derivative of each image's loss by its logits, (B, C); times C for ``bce``.

    p - y without weights. A batch's gradient by the last layer's bias is its mean over images.

    Parameters
    ----------
    outputs : Tensor
        (..., C), softmax or sigmoid outputs p.
    targets, loss, weights
        As for :func:`mean_loss`.
    """
    if weights is None:
        return outputs - targets
    weights = weights.to(outputs)
    if loss == "cross-entropy":
        return (weights * targets).sum(-1, keepdim=True) * outputs - weights * targets
    return (1 - targets) * outputs + weights * targets * (outputs - 1)
