"""Larger mini-batches as a defence."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from adversary.observation.recipe import TrainingRecipe
from fl_sim.defences.base import Defence, DefenceError


@dataclass(frozen=True, kw_only=True)
class LargeBatch(Defence):
    """Average each gradient over ``factor`` times as many images, at the same learning rate.

    The number of unknown pixels grows with the batch, what is observed does not (Zhu et
    al., NeurIPS 2019, name it among the defences). Where ``local.max-steps`` limits
    the steps a round uses more images; where it does not, fewer steps are taken.

    Parameters
    ----------
    factor : int
        By which ``local.batch-size`` is multiplied, >= 1.
    """

    factor: int = 4

    protects = (
        "Hides a patient among the others of a mini-batch: harder for the server to tell apart, "
        "without a bound on what any one of them leaks. Earns no epsilon."
    )

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise DefenceError(f"factor = {self.factor}: must be an integer >= 1")

    def recipe(self, recipe: TrainingRecipe) -> TrainingRecipe:
        """Return the recipe with the larger batch."""
        return dataclasses.replace(recipe, batch_size=self.factor * recipe.batch_size)
