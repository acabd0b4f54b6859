"""One step of a small tanh ConvNet on a batch, as an attacker's problem."""

from __future__ import annotations

from collections.abc import Sequence

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


def smooth_batch(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return draws of the smooth prior, (B, 1, 8, 8), and labels of which some repeat."""
    draw = torch.Generator().manual_seed(seed)
    images = smooth_prior((1, SIZE, SIZE)).sample(count, generator=draw).clamp(0, 1).float()
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
