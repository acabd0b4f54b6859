"""Gaussian noise placed by the Bayesian Cramer-Rao bound: most where an array tells most."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from adversary.common.seeding import generator as seeded
from adversary.common.types import StateDict
from adversary.observation.channel import Channel
from adversary.observation.mechanisms.bound_placement import (
    gradient_of_images,
    placed_levels,
    squared_sensitivities,
)
from adversary.observation.observation import Observation
from fl_sim.defences.base import Defence, DefenceError, LocalUpdate, is_buffer
from fl_sim.models import Classifier
from fl_sim.training.local_training import LOSSES

STAND_INS, PROBES = 4, 4
"""Images of random pixels at which sensitivities are taken, and directions: the level of an array
goes with the fourth root of a mean over its entries."""


@dataclass(frozen=True, kw_only=True)
class BoundNoise(Defence):
    r"""Add noise of ``scale`` times the update's norm, placed over the arrays by the bound.

    Chen, Guersoy and Lei, "Optimal defenses against gradient reconstruction attacks" (arXiv
    2411.03746): of all noise of one energy, that of variances in proportion to the square root of
    an entry's sensitivity ||dg_i / dx||^2 leaves the least trace of the Fisher information, on
    which the Bayesian Cramer-Rao bound depends.

    Departures: one level an array, from the mean sensitivity of its entries; and sensitivities are
    those of images of random pixels at the weights that were sent, so that the levels tell nothing
    of the patients, and an attacker knows them.

    Parameters
    ----------
    scale : float
        Norm of the noise over that of the update, >= 0.
    """

    scale: float = 0.1

    protects = (
        "Blurs what the server can reconstruct from one client's update, those arrays most that "
        "tell most of the images. Earns no epsilon: the update is not clipped. Batch-norm "
        "statistics leave as they are."
    )

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale >= 0):
            raise DefenceError(f"scale = {self.scale}: must be a number >= 0")

    def fitted(
        self, architecture: Callable[[], Classifier], image_shape: tuple[int, int, int]
    ) -> Self:
        """Return the defence that knows the architecture, without which it has no levels."""
        found = dataclasses.replace(self)
        # No field: it is no option of the user's.
        object.__setattr__(found, "_fitted_to", (architecture(), image_shape))
        return found

    def apply(self, update: LocalUpdate, *, generator: torch.Generator) -> StateDict:
        """Return the weights with noise on every array but counts and running statistics."""
        shape = (update.images.shape[1], update.images.shape[2], update.images.shape[3])
        told = _sensitivities(update.model, update.sent, shape)
        energy = (self.scale * _norm(update.sent, update.returned)) ** 2
        levels = placed_levels(told, {n: update.sent[n].numel() for n in told}, energy)
        return {
            name: _noisy(value, levels[name], generator) if name in levels else value
            for name, value in update.returned.items()
        }

    def channel(self, observation: Observation) -> Channel:
        """Return the noise: of the norm that is received, a share scale / sqrt(1 + scale^2)."""
        fitted: tuple[Classifier, tuple[int, int, int]] | None = getattr(self, "_fitted_to", None)
        if fitted is None:
            raise DefenceError("bound-noise: its levels take the architecture of the model")
        told = _sensitivities(fitted[0], observation.sent, fitted[1])
        received = _norm(observation.sent, observation.returned)
        energy = (self.scale / math.hypot(1, self.scale) * received) ** 2
        sizes = {n: observation.sent[n].numel() for n in told}
        return Channel(noise=placed_levels(told, sizes, energy))


def _sensitivities(
    model: Classifier, sent: StateDict, image_shape: tuple[int, int, int]
) -> dict[str, float]:
    """Return the mean of ||dg_i / dx||^2 over each trained array's entries, at stand-ins."""
    draw = seeded(0, "stand-ins")
    device = next(model.parameters()).device
    images = torch.rand(STAND_INS, *image_shape, generator=draw).to(device)

    def loss(outputs: Tensor) -> Tensor:
        labels = torch.arange(STAND_INS, device=device) % max(2, outputs.shape[1])
        return LOSSES["bce" if outputs.shape[1] == 1 else "cross-entropy"](outputs, labels)

    found = squared_sensitivities(gradient_of_images(model, sent, loss), images, draw, PROBES)
    return {name: float(value.double().mean()) for name, value in found.items()}


def _norm(sent: StateDict, returned: StateDict) -> float:
    """Return the norm of what moved, buffers left out."""
    moved = [
        (value.double() - sent[name].double()).square().sum()
        for name, value in returned.items()
        if not is_buffer(name, value)
    ]
    return math.sqrt(float(torch.stack(moved).sum()))


def _noisy(value: Tensor, level: float, generator: torch.Generator) -> Tensor:
    noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
    return (value.double() + level * noise).to(value.dtype)
