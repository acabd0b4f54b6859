"""Labels from the gradient of the last layer."""

from __future__ import annotations

import torch
from torch import Tensor

from adversary.observation import ObservationError
from adversary.problem import Problem


def idlg(head_bias_gradient: Tensor) -> Tensor:
    """Return the label of a single image under cross-entropy (iDLG, Zhao et al. 2020).

    G_b = p - y has one negative entry, at the label.

    Parameters
    ----------
    head_bias_gradient : Tensor
        G_b, (C,).

    Returns
    -------
    Tensor
        (1,) class index.
    """
    return head_bias_gradient.argmin().reshape(1)


def bce_sign(head_bias_gradient: Tensor) -> Tensor:
    """Return the labels of a single image under binary cross-entropy.

    G_b = (p - y) / C is negative exactly where the label is 1.

    Returns
    -------
    Tensor
        (1, C) multi-hot.
    """
    return (head_bias_gradient < 0).to(head_bias_gradient.dtype)[None]


def counts(head_bias_gradient: Tensor, probabilities: Tensor, batch: int) -> Tensor:
    """Return how many images of each class a batch held (after Geng et al. 2021).

    From G_b = mean_i (p_i - y_i): the count is B (p - G_b) with p the mean output, estimated;
    rounded by largest remainders so that the counts sum to B.

    Parameters
    ----------
    head_bias_gradient : Tensor
        G_b, (C,), of the mean cross-entropy.
    probabilities : Tensor
        (C,), the mean softmax output, e.g. on public images.
    batch : int
        B.

    Returns
    -------
    Tensor
        (C,) integers >= 0 that sum to B.
    """
    expected = (batch * (probabilities - head_bias_gradient)).clamp_min(0)
    expected = expected * (batch / expected.sum().clamp_min(1e-12))
    whole = expected.floor().long()
    left = batch - int(whole.sum())
    order = (expected - whole).argsort(descending=True, stable=True)
    whole[order[:left]] += 1
    return whole


def bce_counts(head_bias_gradient: Tensor, probabilities: Tensor, batch: int) -> Tensor:
    """Return how many images of a batch carry each label under binary cross-entropy.

    As :func:`counts`, with G_b = mean_i (p_i - y_i) / C and every label on its own.

    Returns
    -------
    Tensor
        (C,) integers in [0, B].
    """
    expected = batch * (probabilities - len(head_bias_gradient) * head_bias_gradient)
    return expected.round().long().clamp(0, batch)


def recover(problem: Problem) -> Tensor:
    """Return the labels: those granted by the threat model, else read from the update.

    Returns
    -------
    Tensor
        (B,) class indices in ascending order, or (B, C) multi-hot. For several images only the
        counts are known, so their order, and which labels share an image, are arbitrary.
    """
    if problem.threat.labels is not None:
        return problem.threat.labels.to(problem.device)
    _, bias = problem.head_gradient
    if bias is None:
        raise ObservationError(
            f"{problem.name}: no bias gradient of the last layer; labels unknown"
        )
    batch = problem.shape[0]
    single = batch == 1
    if problem.loss == "cross-entropy":
        if single:
            return idlg(bias)
        found = counts(bias, _mean_output(problem), batch)
        return torch.arange(len(bias), device=bias.device).repeat_interleave(found)
    if single:
        return bce_sign(bias)
    found = bce_counts(bias, _mean_output(problem), batch)
    places = torch.arange(batch, device=bias.device)[:, None]
    return (places < found).to(bias.dtype)


def _mean_output(problem: Problem) -> Tensor:
    """Return the model's mean output on public images, or on grey where there are none, (C,)."""
    if problem.prior is not None:
        images = problem.prior.images.to(problem.device, problem.dtype)
    else:
        images = torch.full(problem.shape, 0.5, device=problem.device, dtype=problem.dtype)
    logits = problem.model(images)
    found = logits.softmax(-1) if problem.loss == "cross-entropy" else logits.sigmoid()
    return found.mean(0)
