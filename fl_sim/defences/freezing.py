"""Freezing: a part of the model is not trained at all."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from adversary.channel import Channel
from adversary.observation import Observation, TrainingRecipe
from fl_sim.defences.base import Defence, DefenceError
from fl_sim.defences.partial_sharing import unobserved
from fl_sim.defences.parts import PARTS
from fl_sim.models import Classifier


@dataclass(frozen=True, kw_only=True)
class Freezing(Defence):
    """Train only what is not frozen: by default the last layer, on a body that stays as it is.

    Ziegler et al., "Defending against reconstruction attacks through differentially private
    federated learning for classification of heterogeneous chest X-ray data" (Sensors 2022),
    freeze parts of their networks. Of what is frozen nothing is observed; running statistics
    stand still too, since batch normalisation is in eval mode. Its use depends on the body: first
    weights that were drawn at random make poor features.

    Parameters
    ----------
    part : {"body", "head", "batch-norm"}
        What is frozen: all but the last layer, the last layer, or batch normalisation.
    """

    part: str = "body"

    protects = (
        "Leaves the server fewer gradients to look at. With the body frozen the last layer's "
        "still tells the encoding of a single image, from which an image can be sought. Earns "
        "no epsilon."
    )

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise DefenceError(f"part = {self.part!r}: must be one of {', '.join(PARTS)}")

    def recipe(self, recipe: TrainingRecipe) -> TrainingRecipe:
        """Return the recipe with the running statistics frozen."""
        return dataclasses.replace(recipe, batch_norm="eval")

    def model(self, model: Classifier) -> Classifier:
        """Return the model with the part frozen.

        Raises
        ------
        DefenceError
            If it has none, e.g. no batch normalisation.
        """
        frozen = PARTS[self.part](model.state_dict())
        if not frozen:
            raise DefenceError(
                f"defence.options: part = {self.part!r}: this model has no {self.part}; must be "
                f"another of {', '.join(PARTS)}"
            )
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in frozen)
        return model

    def channel(self, observation: Observation) -> Channel:
        """Return that nothing of the part is observed."""
        return unobserved(observation, PARTS[self.part](observation.returned))
