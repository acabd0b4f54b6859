"""What a client does with the model in a round: local SGD, and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain, islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adversary.common.errors import UserError
from adversary.common.seeding import generator
from adversary.common.torch_optimizers import SGD, Adam, TorchOptimizer
from adversary.observation.recipe import ADAM_BETAS, ADAM_EPSILON, Loss, Optimizer, TrainingRecipe
from adversary.problem.losses import mean_loss
from fl_sim.models.freezing import set_mode


class TrainingError(UserError, ValueError):
    """A client cannot train as asked; one line that names the setting."""


def minibatches(
    num_examples: int, recipe: TrainingRecipe, *, seed: int, round: int, client: str | int
) -> list[Tensor]:
    """Return the mini-batches that a client uses in a round, as indices into its images.

    A pure function, so that the scoring side knows which images were used without being told by
    the client. A round takes ``recipe.steps(num_examples)`` mini-batches and exactly
    ``recipe.images(num_examples)`` distinct images. Every local epoch is shuffled anew. Where
    ``max_steps`` ends a round before every image was used, the rounds walk through one
    shuffled order of the images, round and round, so that each has its turn; so they do where
    ``drop_last`` leaves some out, the same ones in every epoch of a round.

    Parameters
    ----------
    num_examples : int
        Number of the client's images.
    recipe : TrainingRecipe
        Gives the batch size, the epochs and the limit of steps.
    seed : int
        The run seed.
    round : int
        Server round, from 1.
    client : str or int
        The client's own number or name; clients draw independently.

    Returns
    -------
    list of Tensor
        int64 indices (b,), 1 <= b <= batch_size, in the order of training.

    Raises
    ------
    TrainingError
        If the client has no images, or fewer than a batch where all must be full.
    """
    check_batch_size(num_examples, recipe, client, full=recipe.drop_last)
    steps = recipe.steps(num_examples)
    used = recipe.images(num_examples)
    chosen = torch.arange(num_examples)
    if used < num_examples:
        order = torch.randperm(num_examples, generator=generator(seed, "batches", client))
        chosen = order[(chosen[:used] + (round - 1) * used) % num_examples]
    if steps * recipe.batch_size <= used < num_examples:
        return list(chosen.split(recipe.batch_size))
    epochs = (
        chosen[torch.randperm(used, generator=generator(seed, "batches", round, client, epoch))]
        for epoch in range(recipe.local_epochs)
    )
    return list(islice(chain.from_iterable(e.split(recipe.batch_size) for e in epochs), steps))


def check_batch_size(
    num_examples: int, recipe: TrainingRecipe, client: str | int, *, full: bool
) -> None:
    """Raise :class:`TrainingError` where a client has no images, or fills no ``full`` batch."""
    if num_examples < 1:
        raise TrainingError(f"client {client} has no images: use fewer clients or more images")
    if full and recipe.batch_size > num_examples:
        raise TrainingError(
            f"local.batch-size = {recipe.batch_size}: client {client} has only {num_examples} "
            f"images, so at most {num_examples}"
        )


def cross_entropy(logits: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Return the mean softmax cross-entropy of logits (B, C) and classes (B,) or shares (B, C)."""
    if labels.ndim == 2:
        return mean_loss(logits, labels, "cross-entropy", class_weights)
    losses = F.cross_entropy(logits, labels.long(), reduction="none")
    return (losses if class_weights is None else losses * class_weights[labels.long()]).mean()


def binary_cross_entropy(
    logits: Tensor, labels: Tensor, class_weights: Tensor | None = None
) -> Tensor:
    """Return the mean sigmoid cross-entropy of logits (B, C) and labels (B, C) in [0, 1].

    For one output the labels may be (B,).
    """
    return mean_loss(logits, labels.to(logits.dtype).view_as(logits), "bce", class_weights)


LOSSES: dict[Loss, Callable[..., Tensor]] = {
    "cross-entropy": cross_entropy,
    "bce": binary_cross_entropy,
}
"""From logits and labels, class weights if any, to the mean loss (adversary.problem.losses)."""


def make_loss(recipe: TrainingRecipe, model: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the client's loss, of logits and labels, on the model's device."""
    if not recipe.class_weights:
        return LOSSES[recipe.loss]
    like = next(model.parameters())
    weights = torch.tensor(recipe.class_weights, dtype=like.dtype, device=like.device)
    return partial(LOSSES[recipe.loss], class_weights=weights)


def balanced_class_weights(labels: Tensor, loss: Loss, outputs: int) -> tuple[float, ...]:
    """Return class weights that make up for unequal numbers of images.

    Under cross-entropy N / (C N_c), as scikit-learn's "balanced"; under binary cross-entropy
    negative over positive images of each output. A class without images weighs 1.

    Parameters
    ----------
    labels : Tensor
        (N,) classes, or (N, L) multi-hot.
    loss : {"cross-entropy", "bce"}
        What is minimised.
    outputs : int
        C.
    """
    if loss == "cross-entropy":
        counts = labels.long().bincount(minlength=outputs).double()
        weights = len(labels) / (outputs * counts)
    else:
        counts = labels.double().view(len(labels), -1).sum(0)
        weights = (len(labels) - counts) / counts
    return tuple(torch.where((counts > 0) & (weights > 0), weights, 1.0).tolist())


def _sgd(parameters: list[nn.Parameter], recipe: TrainingRecipe) -> TorchOptimizer:
    return SGD(parameters, momentum=recipe.momentum, weight_decay=recipe.weight_decay)


def _adam(parameters: list[nn.Parameter], recipe: TrainingRecipe) -> TorchOptimizer:
    return Adam(parameters, betas=ADAM_BETAS, eps=ADAM_EPSILON, weight_decay=recipe.weight_decay)


OPTIMIZERS: dict[Optimizer, Callable[[list[nn.Parameter], TrainingRecipe], TorchOptimizer]] = {
    "sgd": _sgd,
    "adam": _adam,
}


def train(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    recipe: TrainingRecipe,
    batches: Sequence[Tensor],
    *,
    device: str | torch.device,
) -> float:
    """Train what is not frozen of ``model`` in place, one step a mini-batch.

    The same inputs give the same bits on a CPU; on a GPU cuDNN's deterministic algorithms are
    used, in full float32.

    Parameters
    ----------
    model : nn.Module
        Maps images to logits; moved to ``device``.
    images : Tensor
        (N, C, H, W) in [0, 1].
    labels : Tensor
        (N,) classes, or (N, L) zeros and ones for ``bce``; for training also soft labels, as
        floats (N, C) or (N, L).
    recipe : TrainingRecipe
        Loss, optimiser, learning rate and its schedule, momentum, weight decay, the mode of batch
        normalisation, and the weight of FedProx's term, mu / 2 * ||w - w_sent||^2 (Li et al. 2020).
    batches : sequence of Tensor
        Indices into the images, from :func:`minibatches`.
    device : str or torch.device
        Where to train.

    Returns
    -------
    float
        Mean loss an image before each step, without the proximal term.

    Raises
    ------
    TrainingError
        If batch normalisation is left with one value a channel.
    """
    set_mode(model.to(device), training=recipe.batch_norm == "train")
    parameters = [p for p in model.parameters() if p.requires_grad]
    proximal_mu = recipe.proximal_mu
    sent = [p.detach().clone() for p in parameters] if proximal_mu else []
    optimizer = OPTIMIZERS[recipe.optimizer](parameters, recipe)
    loss_function = make_loss(recipe, model)
    total = torch.zeros((), dtype=torch.float64)
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        for batch, rate in zip(batches, recipe.rates(len(batches)), strict=True):
            model.zero_grad()
            logits = _logits(model, images[batch].to(device))
            loss = loss_function(logits, labels[batch].to(device))
            total += loss.detach().cpu() * len(batch)
            if proximal_mu:
                loss = loss + proximal_mu / 2 * sum(
                    (p - s).square().sum() for p, s in zip(parameters, sent, strict=True)
                )
            loss.backward()
            optimizer.step(rate)
    return float(total) / sum(map(len, batches))


def device_of(model: nn.Module) -> torch.device:
    """Return where a model computes."""
    return next(model.parameters()).device


def _logits(model: nn.Module, images: Tensor) -> Tensor:
    try:
        return model(images)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise TrainingError(
            f"model.batch-norm = 'train': a mini-batch of {len(images)} images of "
            f"{images.shape[-1]} pixels leaves one value a channel; use 'eval', larger images, or "
            "a local.batch-size that leaves no single image over"
        ) from error
