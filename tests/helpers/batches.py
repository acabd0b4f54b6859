"""Steps of a small tanh ConvNet on a few images, as an attacker's problem."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from adversary import Observation, ThreatModel, TrainingRecipe
from adversary.observation.channel import Channel
from adversary.priors.smooth import smooth_prior
from adversary.problem.problem import Problem, build_problem
from fl_sim.models import create

SIZE, LR = 8, 0.1


def noise_batch(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return images of white noise, (B, 1, 8, 8), and labels 0, 1, 0, 1 and so on."""
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(count, 1, SIZE, SIZE, generator=draw), torch.arange(count) % 2


def smooth_batch(count: int, seed: int = 0, size: int = SIZE) -> tuple[Tensor, Tensor]:
    """Return draws of the smooth prior, (B, 1, size, size), and labels of which some repeat."""
    draw = torch.Generator().manual_seed(seed)
    images = smooth_prior((1, size, size)).sample(count, generator=draw).clamp(0, 1).float()
    return images, (torch.arange(count) % 3 == 1).long()


def posed(
    images: Tensor,
    labels: Tensor,
    *,
    scales: Sequence[float] = (),
    expected: int = 0,
    clip: float = torch.inf,
    labels_known: bool = False,
) -> Problem:
    """Return the problem of one step on images, each with a factor of its own.

    Parameters
    ----------
    images, labels : Tensor
        (B, 1, 8, 8) and (B,).
    scales : sequence of float
        Factors of the images' gradients; 1 by default.
    expected : int
        Size of the batch that the server expects and that the sum is divided by; by default B.
    clip : float
        Norm of an image's gradient that the server knows of.
    labels_known : bool
        Whether labels are granted.
    """
    model = create("convnet", channels=1, image_size=SIZE, outputs=2, activation="tanh", seed=3)
    sent = {n: v.clone() for n, v in model.state_dict().items()}
    total = {n: torch.zeros_like(v) for n, v in model.named_parameters()}
    factors = scales or [1.0] * len(images)
    for image, label, factor in zip(images, labels, factors, strict=True):
        loss = torch.nn.functional.cross_entropy(model(image[None]), label[None])
        names, parameters = zip(*model.named_parameters(), strict=True)
        for name, gradient in zip(names, torch.autograd.grad(loss, parameters), strict=True):
            total[name] += factor * gradient
    size = expected or len(images)
    seen = Observation(
        round=1,
        client="client",
        sent=sent,
        returned=sent | {n: sent[n] - LR * g / size for n, g in total.items()},
        num_examples=size,
        recipe=TrainingRecipe(lr=LR, batch_size=size, max_steps=1),
    )
    threat = ThreatModel(
        channel=Channel(example_clip=clip), labels=labels if labels_known else None
    )
    shape = (1, SIZE, SIZE)
    return build_problem(seen, threat, model, image_shape=shape, dtype=torch.float64)


def trained(images: Tensor, labels: Tensor, batch_size: int = 1, **recipe: Any) -> Problem:
    """Return the problem of local training on images in their order, by ``torch.optim.SGD``.

    Parameters
    ----------
    images, labels : Tensor
        (B, 1, H, H) and (B,).
    batch_size : int
        Of each step.
    **recipe
        As in :class:`~adversary.TrainingRecipe`.
    """
    model = create(
        "convnet", channels=1, image_size=images.shape[-1], outputs=2, activation="tanh", seed=3
    )
    sent = {n: v.clone() for n, v in model.state_dict().items()}
    told = TrainingRecipe(lr=0.05, batch_size=batch_size, **recipe)
    optimiser = torch.optim.SGD(
        model.parameters(), lr=LR, momentum=told.momentum, weight_decay=told.weight_decay
    )
    batches = list(zip(images.split(batch_size), labels.split(batch_size), strict=True))
    for (some, their), rate in zip(batches, told.rates(len(batches)), strict=True):
        loss = torch.nn.functional.cross_entropy(model(some), their)
        away = sum((p - sent[n]).square().sum() for n, p in model.named_parameters())
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        (loss + told.proximal_mu / 2 * away).backward()
        optimiser.step()
    seen = Observation(
        round=1,
        client="client",
        sent=sent,
        returned={n: v.detach().clone() for n, v in model.state_dict().items()},
        num_examples=len(images),
        recipe=told,
    )
    shape = images.shape[1:]
    return build_problem(seen, ThreatModel(), model, image_shape=shape, dtype=torch.float64)
