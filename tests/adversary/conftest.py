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
    """A smooth convolutional classifier of 8 x 8 images."""

    def __init__(self, *, channels: int = 1, outputs: int = 3, norm: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 6, 3, padding=1),
            nn.BatchNorm2d(6) if norm else nn.Identity(),
            nn.Sigmoid(),
            nn.Conv2d(6, 6, 3, stride=2, padding=1),
            nn.Sigmoid(),
            nn.Flatten(),
        )
        self.head = nn.Linear(96, outputs)

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


def client_update(
    model: nn.Module, images: Tensor, labels: Tensor, recipe: TrainingRecipe
) -> Observation:
    """Train as a client does, with torch's own SGD, and return what the server sees."""
    client = copy.deepcopy(model)
    client.train(recipe.batch_norm == "train")
    for layer in client.modules():
        if isinstance(layer, nn.BatchNorm2d) and not layer.weight.requires_grad:
            layer.eval()
    sent = {k: v.clone() for k, v in model.state_dict().items()}
    optimiser = torch.optim.SGD(
        [p for p in client.parameters() if p.requires_grad],
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    loss = nn.CrossEntropyLoss() if recipe.loss == "cross-entropy" else nn.BCEWithLogitsLoss()
    batches = list(
        zip(images.split(recipe.batch_size), labels.split(recipe.batch_size), strict=True)
    )
    for step in range(recipe.steps(len(images))):
        x, y = batches[step % len(batches)]
        optimiser.zero_grad()
        loss(client(x), y).backward()
        optimiser.step()
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
