"""Pruning placed by the Bayesian Cramer-Rao bound: what tells most for its use stays at home."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from adversary.common.types import StateDict
from adversary.observation import mechanisms
from adversary.observation.mechanisms.bound_placement import (
    gradient_of_images,
    squared_sensitivities,
)
from fl_sim.defences.base import LocalUpdate, UpdateDefence
from fl_sim.training.local_training import make_loss

MOST_IMAGES = 64
"""Of a client, that are looked at."""


@dataclass(frozen=True, kw_only=True)
class BoundPruning(mechanisms.TopK, UpdateDefence):
    r"""Send the entries that give the step most for what they tell of the images.

    Chen, Guersoy and Lei, "Optimal defenses against gradient reconstruction attacks" (arXiv
    2411.03746): with g the gradient at the weights that were sent, an entry adds
    ||dg_i / dx||^2 to the trace of the Fisher information, on which the Bayesian Cramer-Rao bound
    depends, and delta_i^2 to the step. So of all sets of a size those entries are sent that have
    the largest delta_i^2 / ||dg_i / dx||^2, where top-k sends those with the largest delta_i^2.
    Batch normalisation is in eval mode for the criterion.

    Departures: sensitivities are estimated from 16 random directions, and are those of the first
    step, whatever the update's number of steps. As of top-k, the choice of the entries, which
    depends on the images, is not counted by the bound.

    Parameters
    ----------
    share : float
        Share of the entries that are sent, > 0 and <= 1.
    scope : {"array", "global"}
        Whether every array sends its own, or all arrays compete.
    """

    protects = (
        "Keeps from the server those entries of an update that tell most of the images for what "
        "they change in the model; places and values of the others leave as they are. Earns no "
        "epsilon. Batch-norm statistics leave as they are."
    )

    def apply(self, update: LocalUpdate, *, generator: torch.Generator) -> StateDict:
        """Return the weights with only the chosen entries changed; buffers as they are."""
        device = next(update.model.parameters()).device
        images, labels = (x[:MOST_IMAGES].to(device) for x in (update.images, update.labels))
        loss = make_loss(update.recipe, update.model)
        gradient = gradient_of_images(update.model, update.sent, lambda out: loss(out, labels))
        told = squared_sensitivities(gradient, images, generator)
        worth = {
            name: (update.returned[name].double() - update.sent[name].double()).square()
            / value.double().cpu().clamp_min(torch.finfo(torch.float64).tiny)
            for name, value in told.items()
        }
        kept = self._kept(worth)
        return {
            name: torch.where(kept[name], value, update.sent[name]) if name in kept else value
            for name, value in update.returned.items()
        }
