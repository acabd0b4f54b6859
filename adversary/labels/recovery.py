"""Labels from the gradient of the last layer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from adversary.common.seeding import generator
from adversary.labels.multi_label import multi_labels
from adversary.labels.without_last_layer import labels_by_backbone_gradient
from adversary.observation.observation import ObservationError
from adversary.observation.recipe import Loss
from adversary.problem.head import Head
from adversary.problem.problem import Problem

STAND_INS = 16  # noise images that stand in for public ones where there are none


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


def column_minimum(head_weight_gradient: Tensor, batch: int) -> Tensor:
    """Return the B classes with the lowest entries of G_W (GradInversion, Yin et al. 2021, eq. 8).

    For encodings >= 0 only an image of class c makes entries of row c negative, and its own
    share outweighs the rest. The rule assumes that no label repeats; the name is the paper's,
    whose weights are transposed.

    Parameters
    ----------
    head_weight_gradient : Tensor
        G_W, (C, n_h).
    batch : int
        B, at most C.

    Returns
    -------
    Tensor
        (B,) distinct class indices in ascending order.

    Raises
    ------
    ValueError
        If the batch is larger than the number of classes.
    """
    classes = len(head_weight_gradient)
    if batch > classes:
        raise ValueError(f"batch = {batch}: at most {classes} labels can be distinct")
    lowest = head_weight_gradient.amin(1).argsort(stable=True)
    return lowest[:batch].sort().values


def bce_sign(head_bias_gradient: Tensor) -> Tensor:
    """Return the labels of a single image under binary cross-entropy.

    G_b = (p - y) / C is negative exactly where the label is 1.

    Returns
    -------
    Tensor
        (1, C) multi-hot.
    """
    return (head_bias_gradient < 0).to(head_bias_gradient.dtype)[None]


def bias_gradient(head_weight_gradient: Tensor, encoding: Tensor) -> Tensor:
    """Return G_b as G_W tells it, where the bias was not sent (after Geng et al. 2021).

    A row of G_W is a sum of encodings weighted by what G_b sums, so their totals divide to it:
    exactly for one image, and as well as one encoding stands for all otherwise.

    Parameters
    ----------
    head_weight_gradient : Tensor
        G_W, (C, n_h).
    encoding : Tensor
        (n_h,), the mean input of the last layer, e.g. on public images.

    Returns
    -------
    Tensor
        (C,).
    """
    return head_weight_gradient.sum(1) / encoding.sum()


def label_counts(
    head_bias_gradient: Tensor,
    probabilities: Tensor,
    batch: int,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Return how many images of each class a batch held (after Geng et al. 2021).

    From G_b = mean_i (p_i - y_i): the count is B (p - G_b) with p the mean output, estimated;
    rounded by largest remainders so that the counts sum to B. With class weights w an image of
    class c counts w_c times, and the estimate p is taken for all images.

    Parameters
    ----------
    head_bias_gradient : Tensor
        G_b, (C,), of the mean cross-entropy.
    probabilities : Tensor
        (C,), the mean softmax output, e.g. on public images.
    batch : int
        B.
    class_weights : Tensor, optional
        (C,), w, > 0.

    Returns
    -------
    Tensor
        (C,) integers >= 0 that sum to B.
    """
    if class_weights is None:
        return _round_to_batch(batch * (probabilities - head_bias_gradient), batch)
    w = class_weights.to(head_bias_gradient)
    # B G_b = S p - n w with S = sum_c n_c w_c, which follows from sum_c n_c = B.
    total = batch * (1 + (head_bias_gradient / w).sum()) / (probabilities / w).sum()
    return _round_to_batch((total * probabilities - batch * head_bias_gradient) / w, batch)


def _round_to_batch(expected: Tensor, batch: int) -> Tensor:
    """Return expected counts as integers that sum to B, by largest remainders."""
    expected = expected.clamp_min(0)
    expected = expected * (batch / expected.sum().clamp_min(1e-12))
    whole = expected.floor().long()
    left = batch - int(whole.sum())
    order = (expected - whole).argsort(descending=True, stable=True)
    whole[order[:left]] += 1
    return whole


def jointly_estimated_counts(
    head: Head,
    probabilities: Tensor,
    batch: int,
    *,
    rounds: int = 20,
    inner: int = 10,
) -> Tensor:
    """Return :func:`label_counts` with the mean output that the gradient itself tells.

    The attacker knows the last layer, so outputs follow from encodings. Images of a class are
    taken to share one encoding: B G_W = sum_c n_c (p_c - e_c) h_c^T is solved for the h_c, which
    give p_c = softmax(W h_c + b), in turn until they agree; their mean replaces the estimate.
    Where all C classes occur the h_c are not determined and the plain counts are returned.

    Parameters
    ----------
    head : Head
        The last layer, of softmax outputs, with all of its gradient.
    probabilities : Tensor
        (C,), a first estimate of the mean softmax output.
    batch : int
        B.
    rounds, inner : int
        Times the counts, and within them the encodings, are solved for at most.

    Returns
    -------
    Tensor
        (C,) integers >= 0 that sum to B.
    """
    (G_W, G_b), (W, b) = head.double().gradient, head.double().layer
    class_weights = head.class_weights
    w = torch.ones_like(b) if class_weights is None else class_weights.to(b)
    found = plain = label_counts(G_b, probabilities.double(), batch, class_weights)
    for _ in range(rounds):
        classes = found.nonzero()[:, 0]
        if len(classes) == len(found):
            return plain
        share = w[classes] * found[classes].double() / batch
        outputs = probabilities.double().expand(len(classes), -1)
        labels = torch.eye(len(found), dtype=G_W.dtype, device=G_W.device)[classes]
        for _ in range(inner):
            system = ((outputs - labels) * share[:, None]).T  # (C, K)
            encodings = torch.linalg.pinv(system) @ G_W
            outputs = (encodings @ W.T + b).softmax(1)
        before, found = found, _round_to_batch(batch * (share @ outputs - G_b) / w, batch)
        if torch.equal(before, found):
            break
    return found


def bce_counts(
    head_bias_gradient: Tensor,
    probabilities: Tensor,
    batch: int,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Return how many images of a batch carry each label under binary cross-entropy.

    As :func:`label_counts`, with G_b = mean_i (p_i - y_i) / C and every label on its own.

    Returns
    -------
    Tensor
        (C,) integers in [0, B].
    """
    p, G_b = probabilities, len(head_bias_gradient) * head_bias_gradient
    # An image with the label adds w (p - 1), one without p.
    apart = 1.0 if class_weights is None else p + class_weights.to(p) * (1 - p)
    return (batch * (p - G_b) / apart).round().long().clamp(0, batch)


def labels_from_signs(head_bias_gradient: Tensor, batch: int, loss: Loss) -> Tensor:
    """Return labels of which no more is known than the signs of G_b, (C,).

    Under cross-entropy a class with a negative entry occurs; those that do are taken to occur
    equally often. Under binary cross-entropy the label is one of most images, taken for all.
    """
    present = head_bias_gradient < 0
    if loss == "bce":
        return present.to(head_bias_gradient.dtype).expand(batch, -1).clone()
    classes = present.nonzero()[:, 0] if bool(present.any()) else idlg(head_bias_gradient)
    return classes.repeat(-(-batch // len(classes)))[:batch].sort().values


def recover(problem: Problem, rule: str = "consistent") -> Tensor:
    """Return the labels: those granted by the threat model, else read from the update.

    Under cross-entropy a single image's label is :func:`idlg`'s whatever the rule; under binary
    cross-entropy, for which the papers' rules are not made, labels are :func:`bce_sign`'s and
    :func:`bce_counts`'. Of several images of a client that uses Adam they are
    :func:`labels_from_signs`'s.

    Parameters
    ----------
    problem : Problem
        What the attacker knows.
    rule : str
        One of :data:`RULES`, for several images under cross-entropy.

    Returns
    -------
    Tensor
        (B,) class indices in ascending order, or (B, C) multi-hot. Of several images only the
        counts are known, so their order is arbitrary; and which labels share an image too, unless
        there are more labels than images (:func:`adversary.labels.multi_label.multi_labels`).

    Raises
    ------
    ObservationError
        If neither weights nor bias of the last layer were sent, and too many labels could be.
    """
    if problem.threat.labels is not None:
        return problem.threat.labels.to(problem.device)
    if not problem.head.observed:
        return labels_by_backbone_gradient(problem, _proxy_images(problem).mean(0, keepdim=True))
    batch, single = problem.shape[0], problem.shape[0] == 1
    if problem.observation.recipe.optimizer == "adam" and not single:
        return labels_from_signs(_bias_gradient(problem), batch, problem.loss)
    if problem.loss == "bce":
        bias = _bias_gradient(problem)
        if single:
            return bce_sign(bias)
        found = bce_counts(bias, _mean_output(problem), batch, problem.class_weights)
        return _multi_hot(problem, found)
    return idlg(_bias_gradient(problem)) if single else RULES[rule](problem)


def _multi_hot(problem: Problem, found: Tensor) -> Tensor:
    """Return (B, C) labels that occur as often as found, (C,): together in an image if it tells."""
    batch, head = problem.shape[0], problem.head
    if not head.complete or batch >= len(found):
        places = torch.arange(batch, device=found.device)[:, None]
        return (places < found).to(problem.dtype)
    labels = multi_labels(head, found, batch, noise=problem.sigma(head.weight_name))
    return labels.to(problem.device, problem.dtype)


def _zero_shot(problem: Problem) -> Tensor:
    bias, output = _bias_gradient(problem), _mean_output(problem)
    return _repeat_by_count(label_counts(bias, output, problem.shape[0], problem.class_weights))


def _consistent(problem: Problem) -> Tensor:
    if not problem.head.complete:
        return _zero_shot(problem)
    found = jointly_estimated_counts(problem.head, _mean_output(problem), problem.shape[0])
    return _repeat_by_count(found)


def _column_minimum(problem: Problem) -> Tensor:
    weight = problem.head.weight_gradient
    weighted = problem.class_weights is not None  # images that hardly count hide behind others
    if weight is None or weighted or problem.shape[0] > len(weight):
        return _zero_shot(problem)
    return column_minimum(weight, problem.shape[0])


RULES: dict[str, Callable[[Problem], Tensor]] = {
    "consistent": _consistent,
    "zero-shot": _zero_shot,
    "column-minimum": _column_minimum,
}
"""Rules for the labels of several images under cross-entropy, by name.

Where the last layer's weights or bias were not sent, or for ``column-minimum`` the batch is larger
than the number of classes or the loss has class weights, ``zero-shot`` stands in.
"""


def _repeat_by_count(found: Tensor) -> Tensor:
    """Return class counts as class indices in ascending order."""
    return torch.arange(len(found), device=found.device).repeat_interleave(found)


def _bias_gradient(problem: Problem) -> Tensor:
    """Return G_b as sent, else as G_W tells it."""
    weight, bias = problem.head.weight_gradient, problem.head.bias_gradient
    if bias is not None:
        return bias
    if weight is None:
        raise ObservationError(f"{problem.name}: no gradient of the last layer; labels unknown")
    return bias_gradient(weight, _mean_encoding(problem))


def _proxy_images(problem: Problem) -> Tensor:
    """Return public images, or where there are none uniform noise, as Geng et al. do."""
    if problem.prior is not None:
        return problem.prior.images.to(problem.device, problem.dtype)
    noise = torch.rand((STAND_INS, *problem.shape[1:]), generator=generator(0, "stand-ins"))
    return noise.to(problem.device, problem.dtype)


def _mean_output(problem: Problem) -> Tensor:
    """Return the model's mean output on public images or their stand-ins, (C,)."""
    return problem.head.outputs(problem.model(_proxy_images(problem))).mean(0)


def _mean_encoding(problem: Problem) -> Tensor:
    """Return the mean input of the last layer on public images or their stand-ins, (n_h,)."""
    return problem.encode(_proxy_images(problem)).mean(0)
