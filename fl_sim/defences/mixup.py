"""MixUp: training on blends of two images and of their labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from adversary.common.truth import Blends
from adversary.observation.blending import blended
from adversary.observation.channel import Channel
from adversary.observation.observation import Observation
from adversary.observation.recipe import TrainingRecipe
from fl_sim.defences.base import Defence, DefenceError
from fl_sim.models import Classifier


@dataclass(frozen=True, kw_only=True)
class MixUp(Defence):
    r"""Replace each mini-batch by blends within it, x = l x_i + (1 - l) x_j and y alike.

    Zhang et al., "mixup: beyond empirical risk minimization" (ICLR 2018): l is drawn from
    Beta(alpha, alpha), once a mini-batch, and j from a shuffle of the mini-batch, as in the
    authors' code. An image left over in a mini-batch of its own stays as it is.

    Parameters
    ----------
    alpha : float
        > 0; the larger, the nearer is l to one half.
    """

    alpha: float = 1.0

    protects = (
        "Shows the server's attacks blends of two patients instead of either. A blend of few "
        "images is no secret (Carlini et al., S&P 2021): attacks here seek the blends and do not "
        "take them apart, and are scored against the patients. Earns no epsilon."
    )

    def __post_init__(self) -> None:
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise DefenceError(f"alpha = {self.alpha}: must be a number > 0")

    def recipe(self, recipe: TrainingRecipe) -> TrainingRecipe:
        """Return the recipe, once its mini-batches are known to hold two images or more."""
        if recipe.batch_size < 2:
            raise DefenceError(
                f"local.batch-size = {recipe.batch_size}: mixup blends images of one mini-batch; "
                "must be >= 2"
            )
        return recipe

    def channel(self, observation: Observation) -> Channel:
        """Tell the distribution of the blends; which they were is the client's own."""
        return Channel(blend=self.alpha)

    def train(
        self,
        model: Classifier,
        images: Tensor,
        labels: Tensor,
        recipe: TrainingRecipe,
        batches: Sequence[Tensor],
        *,
        generator: torch.Generator,
    ) -> float:
        """Train on the blends; the loss is that of blended labels."""
        outputs = model.head.out_features
        seen = self.blends(images, labels, recipe, batches, outputs=outputs, generator=generator)
        batches = seen.batches[0]
        return super().train(model, seen.images, seen.labels, recipe, batches, generator=generator)

    def blends(
        self,
        images: Tensor,
        labels: Tensor,
        recipe: TrainingRecipe,
        batches: Sequence[Tensor],
        *,
        outputs: int,
        generator: torch.Generator,
    ) -> Blends:
        """Return the blends of all mini-batches, one after the other."""
        if recipe.loss == "cross-entropy":
            labels = functional.one_hot(labels.long(), outputs)
        labels = labels.to(images.dtype)
        mixed, soft, sources = [], [], []
        for batch in batches:
            blends, targets, partner = blended(images[batch], labels[batch], self.alpha, generator)
            mixed.append(blends)
            soft.append(targets)
            sources.append(torch.stack([batch, batch[partner]], 1))
        sizes = [len(batch) for batch in batches]
        return Blends(
            images=torch.cat(mixed),
            labels=torch.cat(soft),
            sources=torch.cat(sources),
            batches=(torch.arange(sum(sizes)).split(sizes),),
        )
