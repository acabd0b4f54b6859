"""Small victims that every attack test shares."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from adversary import Observation, TrainingRecipe

torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other


class TinyNet(nn.Module):
    """A smooth convolutional classifier of small square images, 8 x 8 by default."""

    def __init__(
        self, *, channels: int = 1, outputs: int = 3, norm: bool = False, side: int = 8
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 6, 3, padding=1),
            nn.BatchNorm2d(6) if norm else nn.Identity(),
            nn.Sigmoid(),
            nn.Conv2d(6, 6, 3, stride=2, padding=1),
            nn.Sigmoid(),
            nn.Flatten(),
        )
        self.head = nn.Linear(6 * (side // 2) ** 2, outputs)

    def encode(self, images: Tensor) -> Tensor:
        return self.body(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.encode(images))


@pytest.fixture
def tiny_net() -> Callable[..., TinyNet]:
    def make(seed: int = 0, **options: object) -> TinyNet:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return TinyNet(**options)  # type: ignore[arg-type]

    return make


def loss_by_hand(logits: Tensor, labels: Tensor, recipe: TrainingRecipe) -> Tensor:
    """Return the weighted loss as the formula has it."""
    weights = torch.tensor(recipe.class_weights or [1.0] * logits.shape[1]).to(logits)
    if recipe.loss == "cross-entropy":
        picked = logits.log_softmax(1)[torch.arange(len(labels)), labels]
        return -(weights[labels] * picked).mean()
    positive, negative = nn.functional.logsigmoid(logits), nn.functional.logsigmoid(-logits)
    return -(weights * labels * positive + (1 - labels) * negative).mean()


def client_update(
    model: nn.Module, images: Tensor, labels: Tensor, recipe: TrainingRecipe
) -> Observation:
    """Train as a client does, with torch's own optimisers, and return what the server sees."""
    client = copy.deepcopy(model)
    client.train(recipe.batch_norm == "train")
    for layer in client.modules():
        if isinstance(layer, nn.BatchNorm2d) and not layer.weight.requires_grad:
            layer.eval()
    sent = {k: v.clone() for k, v in model.state_dict().items()}
    parameters = [p for p in client.parameters() if p.requires_grad]
    start = [p.detach().clone() for p in parameters]
    if recipe.optimizer == "adam":
        optimiser: torch.optim.Optimizer = torch.optim.Adam(
            parameters, lr=recipe.lr, weight_decay=recipe.weight_decay
        )
    else:
        optimiser = torch.optim.SGD(
            parameters,
            lr=recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )
    used = recipe.an_epoch(len(images))
    batches = list(
        zip(
            images[:used].split(recipe.batch_size),
            labels[:used].split(recipe.batch_size),
            strict=True,
        )
    )
    steps = recipe.steps(len(images))
    schedules = {
        "constant": lambda: torch.optim.lr_scheduler.ConstantLR(optimiser, 1.0),
        "cosine": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps),
        "step": lambda: torch.optim.lr_scheduler.StepLR(
            optimiser, recipe.decay_every, recipe.decay
        ),
    }
    schedule = schedules[recipe.schedule]()
    for step in range(steps):
        x, y = batches[step % len(batches)]
        optimiser.zero_grad()
        loss = loss_by_hand(client(x), y, recipe)
        for p, sent_p in zip(parameters, start, strict=True):
            loss = loss + recipe.proximal_mu / 2 * (p - sent_p).square().sum()
        loss.backward()
        optimiser.step()
        schedule.step()
    return Observation(
        round=1,
        client="client-00",
        sent=sent,
        returned={k: v.clone() for k, v in client.state_dict().items()},
        num_examples=len(images),
        recipe=recipe,
    )


@pytest.fixture
def update() -> Callable[..., Observation]:
    return client_update
