"""The company of an image among public X-rays, at a place on the path of local training.

An update tells of the client's batches what they were like in the mean over local steps, while that
moves with the weights. What batches of public X-rays are like at each place is nearer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import torch
from torch import Tensor, nn
from torch.func import functional_call

from adversary.common.types import StateDict
from adversary.identification.company import Company
from adversary.identification.rehearsal import Rehearsal
from adversary.identification.views import Examples
from adversary.observation.recipe import TrainingRecipe
from adversary.problem.losses import mean_loss

IMAGES = 48
"""Public X-rays in the batches that are looked at, about."""


def company(
    model: nn.Module,
    layers: Sequence[str],
    weights: StateDict,
    batches: Sequence[Examples],
    recipe: TrainingRecipe,
) -> dict[str, Company]:
    """Return what batches of images are like in each layer, in the mean over them.

    Parameters
    ----------
    model : nn.Module
        In training mode.
    layers : sequence of str
        Batch-normalisation layers.
    weights : dict of str to Tensor
        Parameters and buffers; not changed.
    batches : sequence of (Tensor, Tensor)
        Images (B, C, H, W) and targets (B, outputs), at least one.
    recipe : TrainingRecipe
        Of which the loss counts.
    """
    seen = [_of_batch(model, layers, weights, *batch, recipe) for batch in batches]
    return {name: _mean([one[name] for one in seen]) for name in layers}


def public_batches(rehearsals: Sequence[Rehearsal], size: int) -> list[Examples]:
    """Return images and targets of batches that were rehearsed with, of all rehearsals in turn."""
    found = [
        (one.examples[0][batch], one.examples[1][batch])
        for step in zip(*(one.batches for one in rehearsals), strict=True)
        for one, batch in zip(rehearsals, step, strict=True)
        if len(batch)
    ]
    return found[: max(1, IMAGES // size)]


def _of_batch(
    model: nn.Module,
    layers: Sequence[str],
    weights: StateDict,
    images: Tensor,
    targets: Tensor,
    recipe: TrainingRecipe,
) -> dict[str, Company]:
    """Return what one batch is like in each layer."""
    entered: dict[str, Tensor] = {}
    hooks = [
        model.get_submodule(name).register_forward_pre_hook(
            lambda _, entering, name=name: entered.update(
                {name: entering[0].detach().transpose(0, 1).flatten(1)}
            )
        )
        for name in layers
    ]
    names = [n for layer in layers for n in (f"{layer}.bias", f"{layer}.weight") if n in weights]
    at = {name: weights[name].detach().clone().requires_grad_(True) for name in names}
    state = {n: v.clone() for n, v in weights.items()} | at
    per_class = torch.tensor(recipe.class_weights) if recipe.class_weights else None
    try:
        outputs = functional_call(model, state, (images,))
        loss = mean_loss(outputs, targets, recipe.loss, per_class)
        slopes = torch.autograd.grad(loss, list(at.values())) if at else ()
    finally:
        for hook in hooks:
            hook.remove()
    by_name = dict(zip(at, slopes, strict=True))
    found = {}
    for name, values in entered.items():
        none = torch.zeros(len(values))
        found[name] = Company(
            mean=values.mean(1),
            variance=values.var(1),
            by_shift=by_name.get(f"{name}.bias", none),
            by_scale=by_name.get(f"{name}.weight", none),
        )
    return found


def _mean(batches: Sequence[Company]) -> Company:
    """Return what batches are like in the mean."""
    return Company(*(
        torch.stack([getattr(one, field.name) for one in batches]).mean(0)
        for field in fields(Company)
    ))  # fmt: skip
