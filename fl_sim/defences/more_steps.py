"""More local steps as a defence."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from adversary.observation.recipe import TrainingRecipe
from fl_sim.defences.base import Defence, DefenceError


@dataclass(frozen=True, kw_only=True)
class MoreSteps(Defence):
    """Take ``factor`` times as many local steps before an update leaves.

    The server sees the sum of the steps' gradients, each at weights that it does not know
    (attacked first by Geiping et al., NeurIPS 2020). Both
    ``local.epochs`` and, where there is one, ``local.max-steps`` are multiplied, so the steps are
    exactly ``factor`` times as many; they use images that were not used before while there are
    any. The learning rate stays.

    Parameters
    ----------
    factor : int
        By which the steps are multiplied, >= 1.
    """

    factor: int = 4

    protects = (
        "Sends the server a sum over several steps and, mostly, more images. Attacks that read "
        "it as one gradient get worse with the learning rate; the recipe is known, so nothing "
        "is hidden for good. Earns no epsilon."
    )

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise DefenceError(f"factor = {self.factor}: must be an integer >= 1")

    def recipe(self, recipe: TrainingRecipe) -> TrainingRecipe:
        """Return the recipe with more epochs, and a higher limit of steps if there is one."""
        return dataclasses.replace(
            recipe,
            local_epochs=self.factor * recipe.local_epochs,
            max_steps=self.factor * recipe.max_steps,
        )
