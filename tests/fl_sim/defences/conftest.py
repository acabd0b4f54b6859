"""A client that trains one step, its defence, and an attacker that may know of it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch

from adversary import ThreatModel
from adversary.attacks import create as create_attack
from adversary.observation.channel import Channel
from adversary.observation.observation import Observation
from adversary.observation.recipe import TrainingRecipe
from adversary.problem.problem import build_problem
from adversary.scoring.metrics import psnr
from fl_sim.defences import Defence, LocalUpdate
from fl_sim.models import create as create_model
from fl_sim.training.local_training import train

torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other


@pytest.fixture
def client() -> Callable[..., LocalUpdate]:
    """Return what a client holds after training on all of its 12 x 12 pixel images at once."""

    def trained(
        *,
        seed: int = 0,
        images: int = 1,
        lr: float = 0.1,
        model: str = "convnet",
        size: int = 12,
        steps: int = 1,
    ) -> LocalUpdate:
        made = create_model(
            model, channels=1, image_size=size, outputs=3, activation="gelu", seed=seed
        )
        draw = torch.Generator().manual_seed(seed)
        pictures = torch.rand(images, 1, size, size, generator=draw)
        labels = torch.arange(images) % 3
        recipe = TrainingRecipe(lr=lr, batch_size=images, local_epochs=steps)
        sent = copy.deepcopy(made.state_dict())
        train(made, pictures, labels, recipe, [torch.arange(images)] * steps, device="cpu")
        return LocalUpdate(
            sent=sent,
            returned=copy.deepcopy(made.state_dict()),
            model=made,
            recipe=recipe,
            images=pictures,
            labels=labels,
        )

    return trained


@pytest.fixture
def seen() -> Callable[..., Observation]:
    """Return what the server sees of a defended client."""

    def observation(defence: Defence, update: LocalUpdate, *, seed: int = 0) -> Observation:
        draw = torch.Generator().manual_seed(seed)
        return Observation(
            round=1,
            client="client-00",
            sent=update.sent,
            returned=defence.apply(update, generator=draw),
            num_examples=len(update.images),
            recipe=update.recipe,
        )

    return observation


@pytest.fixture
def psnr_of_dlg() -> Callable[..., float]:
    """Return the PSNR in dB that DLG reaches on an update of one image of known label."""

    def reached(observation: Observation, channel: Channel, update: LocalUpdate) -> float:
        problem = build_problem(
            observation,
            ThreatModel(labels=update.labels, channel=channel),
            update.model,
            image_shape=tuple(update.images.shape[1:]),  # type: ignore[arg-type]
        )
        found = create_attack("dlg", {"iterations": "60"}, start="grey").run(problem, seed=1)
        return float(psnr(found.images, update.images))

    return reached
