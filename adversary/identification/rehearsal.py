"""The client's local training rehearsed with images that the server has.

Where the weights were during local training is not observed; what other images do to them is. The
path of a rehearsal, bent to end where the client's ended, is nearer to the client's than the
straight line between its ends: the first steps of an epoch move the weights most, and most of that
is the same for any X-rays.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from adversary.common.types import StateDict
from adversary.identification.per_example import blocks, parts
from adversary.observation.batch_statistics import frozen_layers
from adversary.observation.blending import blended
from adversary.observation.channel import Channel
from adversary.observation.observation import Observation
from adversary.observation.recipe import ADAM_BETAS, ADAM_EPSILON, TrainingRecipe
from adversary.problem.losses import mean_loss
from adversary.problem.update_models import mini_batches

_WHOLE = 2**62


@dataclass(frozen=True, eq=False)
class Rehearsal:
    """One rehearsal of a client's local training.

    Parameters
    ----------
    weights : list of dict of str to Tensor
        Parameters and buffers before each step, and after the last: steps + 1.
    root : list of dict of str to Tensor
        Adam's root of the second moment, with its epsilon, in each step; empty for SGD.
    batches : list of Tensor
        Images of each step, as indices into those rehearsed with.
    examples : tuple of Tensor
        Images and targets that it was rehearsed with, as the network saw them unless blended.
    """

    weights: list[StateDict]
    root: list[StateDict]
    batches: list[Tensor]
    examples: tuple[Tensor, Tensor]


def in_training_mode(model: nn.Module, recipe: TrainingRecipe) -> nn.Module:
    """Return a copy in the mode of the clients' training; without dropout, of unknown noise."""
    model = copy.deepcopy(model)
    frozen = frozen_layers(model)
    model.train(recipe.batch_norm == "train")
    for name, module in model.named_modules():
        if name in frozen or isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()
    return model


def trained_names(model: nn.Module, observation: Observation) -> list[str]:
    """Return the names of the parameters that the client trains."""
    return [n for n, p in model.named_parameters() if p.requires_grad]


def start(model: nn.Module, observation: Observation) -> StateDict:
    """Return parameters and buffers where the client began."""
    return {
        name: observation.sent.get(name, value).detach().clone()
        for name, value in model.state_dict().items()
    }


def rehearse(
    model: nn.Module,
    observation: Observation,
    examples: tuple[Tensor, Tensor],
    *,
    steps: int,
    generator: torch.Generator,
    channel: Channel | None = None,
) -> Rehearsal:
    """Train from where the client began as the recipe says.

    Parameters
    ----------
    model : nn.Module
        From :func:`in_training_mode`; not changed.
    observation : Observation
        What was sent, and the recipe.
    examples : tuple of Tensor
        Images, (n, C, H, W), and targets, (n, outputs) as of
        :func:`adversary.problem.losses.mean_loss`.
    steps : int
        Local steps, >= 1.
    generator : torch.Generator
        Shuffles the images.
    channel : Channel, optional
        Of which what the network sees of images counts, and the clipping of each one's gradient.
    """
    channel = channel or Channel()
    recipe, (images, targets) = observation.recipe, examples
    if channel.transform is not None:
        images = channel.transform(images, generator=generator)
    weights, names = start(model, observation), trained_names(model, observation)
    sent = {name: weights[name] for name in names}
    first, second = (
        {n: torch.zeros_like(v) for n, v in sent.items()},
        {n: torch.zeros_like(v) for n, v in sent.items()},
    )
    path, roots = [weights], []
    drawn = mini_batches(recipe, len(images), steps, generator)
    for number, (batch, rate) in enumerate(zip(drawn, recipe.rates(steps), strict=True), 1):
        weights = dict(weights)
        shown = images[batch], targets[batch]
        if channel.blend:
            shown = blended(*shown, channel.blend, generator)[:2]
        gradient = _gradient(model, weights, names, shown, recipe, channel.example_clip)
        root = {}
        for name in names:
            pull = gradient[name] + recipe.weight_decay * weights[name]
            pull = pull + recipe.proximal_mu * (weights[name] - sent[name])
            if recipe.optimizer == "adam":
                b1, b2 = ADAM_BETAS
                first[name] = b1 * first[name] + (1 - b1) * pull
                second[name] = b2 * second[name] + (1 - b2) * pull.square()
                root[name] = (second[name] / (1 - b2**number)).sqrt() + ADAM_EPSILON
                move = first[name] / (1 - b1**number) / root[name]
            else:
                first[name] = move = recipe.momentum * first[name] + pull
            weights[name] = weights[name] - rate * move
        path.append(weights)
        if root:
            roots.append(root)
    return Rehearsal(path, roots, drawn, (images, targets))


def _gradient(
    model: nn.Module,
    weights: StateDict,
    names: Sequence[str],
    examples: tuple[Tensor, Tensor],
    recipe: TrainingRecipe,
    example_clip: float,
) -> StateDict:
    """Return the gradient of a step; buffers in ``weights`` are moved on."""
    images, targets = examples
    class_weights = torch.tensor(recipe.class_weights) if recipe.class_weights else None
    at = {n: weights[n].detach().requires_grad_(True) for n in names}
    buffers = {n: v.clone() for n, v in weights.items() if n not in at}
    if math.isinf(example_clip):
        outputs = functional_call(model, at | buffers, (images,))
        loss = mean_loss(outputs, targets, recipe.loss, class_weights)
        found = torch.autograd.grad(loss, list(at.values()))
        weights.update(buffers)
        return dict(zip(names, found, strict=True))
    kept = blocks(at, _WHOLE, generator=torch.Generator())
    rows = parts(
        model,
        at | buffers,
        images,
        lambda out: len(out) * mean_loss(out, targets, recipe.loss, class_weights),
        kept,
    )
    rows = rows * (example_clip / rows.norm(dim=1, keepdim=True).clamp_min(1e-30)).clamp(max=1)
    summed = (rows.sum(0) / recipe.batch_size).split([weights[n].numel() for n in kept])
    return {n: s.view_as(weights[n]) for n, s in zip(kept, summed, strict=True)}


def gains(
    recipe: TrainingRecipe, steps: int, roots: Sequence[StateDict], names: Sequence[str]
) -> list[StateDict]:
    """Return by how much the gradient of each step has moved each weight at the end.

    Parameters
    ----------
    recipe : TrainingRecipe
        Learning rates, momentum and optimiser.
    steps : int
        Local steps.
    roots : sequence of dict of str to Tensor
        Of :class:`Rehearsal`; for SGD empty.
    names : sequence of str
        Parameters.

    Returns
    -------
    list of dict of str to Tensor
        By step and parameter: scalars for SGD, an array for Adam.
    """
    rates = recipe.rates(steps)
    adam = recipe.optimizer == "adam"
    kept = ADAM_BETAS[0] if adam else recipe.momentum
    later: StateDict = {name: torch.zeros(()) for name in names}
    found: list[StateDict] = []
    for number in range(steps - 1, -1, -1):
        for name in names:
            own = torch.tensor(rates[number])
            if adam:
                own = own * (1 - kept) / (1 - kept ** (number + 1)) / roots[number][name]
            later[name] = own + kept * later[name]
        found.append(dict(later))
    return found[::-1]
