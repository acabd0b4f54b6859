"""What batch-normalisation buffers tell of the images that went through them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from adversary.common.types import StateDict
from adversary.observation.observation import Observation


class LayerStatistics(NamedTuple):
    """Mean and unbiased variance of each channel at one layer's input, (C,) each."""

    mean: Tensor
    variance: Tensor


def observed_statistics(observation: Observation, model: nn.Module) -> dict[str, LayerStatistics]:
    """Return the batch statistics that an update's buffers tell, by layer.

    A training step moves a buffer by new = (1 - m) old + m batch, so one step tells the batch's
    statistics exactly: batch = (new - (1 - m) old)/m. For k steps the same with 1 - (1 - m)^k
    for m is their mean, the later steps weighing more. Buffers that did not move are those of
    the data that the model was trained on before, which GradInversion (Yin et al. 2021) falls
    back on; those that nothing has moved yet tell nothing and are left out.

    Parameters
    ----------
    observation : Observation
        A checked update.
    model : nn.Module
        The model that was sent, for the layers' momentum; its own buffers are not read.

    Returns
    -------
    dict of str to Statistics
        By layer name, float64; empty without batch normalisation.
    """
    return {
        name: found
        for name, layer in model.named_modules()
        if isinstance(layer, _BatchNorm)
        and (found := _layer_statistics(observation, name, layer.momentum)) is not None
    }


def counted_steps(observation: Observation) -> frozenset[int]:
    """Return by how much the counters of batch normalisation rose: a step each, mostly all alike.

    0 is of a layer that used its running statistics; empty without counters.
    """
    sent, returned = observation.sent, observation.returned
    return frozenset(
        round(float(returned[name]) - float(sent[name]))
        for name in returned.keys() & sent.keys()
        if name.endswith("num_batches_tracked")
    )


def frozen_layers(model: nn.Module) -> list[str]:
    """Return the names of the layers whose scale and shift ask for no gradient.

    A frozen layer normalises by its running statistics, in training too.
    """
    return [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, _BatchNorm)
        and (own := list(layer.parameters()))
        and not any(p.requires_grad for p in own)
    ]


def _layer_statistics(
    observation: Observation, name: str, momentum: float | None
) -> LayerStatistics | None:
    names = [f"{name}.running_mean", f"{name}.running_var"]
    count = f"{name}.num_batches_tracked"
    sent, returned = observation.sent, observation.returned
    if not all(n in sent for n in (*names, count)):
        return None
    before = int(sent[count])
    if all(n in returned for n in (*names, count)) and (steps := int(returned[count]) - before) > 0:
        # Without a momentum the buffers are the mean over all batches so far.
        kept = before / (before + steps) if momentum is None else (1 - momentum) ** steps
        mean, variance = (
            (returned[n].double() - kept * sent[n].double()) / (1 - kept) for n in names
        )
        return LayerStatistics(mean, variance)
    return LayerStatistics(*(sent[n].double() for n in names)) if before else None


def batch_statistics(
    model: nn.Module, images: Tensor, layers: list[str], weights: StateDict | None = None
) -> list[LayerStatistics]:
    """Return the statistics that a batch has at the inputs of layers, differentiable in it.

    Parameters
    ----------
    model : nn.Module
        Run once, no further than the last of the layers; hooks are removed again.
    images : Tensor
        (B, C, H, W).
    layers : list of str
        Names of modules.
    weights : dict of str to Tensor, optional
        Instead of the model's own.
    """
    found: dict[str, LayerStatistics] = {}

    def look(name: str, inputs: Tensor) -> None:
        across = [d for d in range(inputs.ndim) if d != 1]
        values = inputs.numel() // inputs.shape[1]
        # A single value has no unbiased variance: a small image's last maps, in "eval" mode.
        variance = inputs.var(across, correction=min(1, values - 1))
        found[name] = LayerStatistics(inputs.mean(across), variance)
        if len(found) == len(layers):
            raise _StopForward

    hooks = [
        model.get_submodule(name).register_forward_pre_hook(
            lambda _, inputs, name=name: look(name, inputs[0])
        )
        for name in layers
    ]
    try:
        with suppress(_StopForward):
            functional_call(model, weights or {}, (images,))
    finally:
        for hook in hooks:
            hook.remove()
    return [found[name] for name in layers]


class _StopForward(Exception):  # noqa: N818 (no error)
    """Raised to stop the forward pass once all statistics are collected."""


def simulated_statistics(
    model: nn.Module,
    batches: Sequence[Tensor],
    layers: list[str],
    weights: Sequence[StateDict],
) -> list[LayerStatistics]:
    """Return what the buffers would tell of training steps.

    As :func:`observed_statistics` reads them: the mean over steps, each weighing 1 - m times as
    much as the next one, or all alike without a momentum.

    Parameters
    ----------
    model : nn.Module
        Its layers' momentum m counts.
    batches : sequence of Tensor
        (b, C, H, W) of each step.
    layers : list of str
        Names of batch-normalisation layers.
    weights : sequence of dict of str to Tensor
        Weights at which each step begins.
    """
    by_step = [
        batch_statistics(model, batch, layers, at)
        for batch, at in zip(batches, weights, strict=True)
    ]
    if len(by_step) == 1:
        return by_step[0]
    found = []
    for name, steps in zip(layers, zip(*by_step, strict=True), strict=True):
        layer = model.get_submodule(name)
        assert isinstance(layer, _BatchNorm)
        kept = 1.0 if layer.momentum is None else 1 - layer.momentum
        shares = torch.tensor([kept**k for k in reversed(range(len(steps)))]).to(steps[0].mean)
        shares = shares / shares.sum()
        mean, variance = (
            (shares[:, None] * torch.stack(values)).sum(0) for values in zip(*steps, strict=True)
        )
        found.append(LayerStatistics(mean, variance))
    return found


def statistics_distance(found: list[LayerStatistics], target: list[LayerStatistics]) -> Tensor:
    """Return sum_l ||mean_l - mean*_l|| + ||variance_l - variance*_l|| (Yin et al. 2021, eq. 10).

    Returns
    -------
    Tensor
        Scalar, 0 where all statistics agree.
    """
    apart = [
        torch.linalg.vector_norm(a - b)
        for layer, wanted in zip(found, target, strict=True)
        for a, b in zip(layer, wanted, strict=True)
    ]
    return torch.stack(apart).sum()
