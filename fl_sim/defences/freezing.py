"""Freezing: a part of the model is not trained at all."""

from __future__ import annotations

from dataclasses import dataclass

from fl_sim.defences.base import Defence, DefenceError
from fl_sim.models import Classifier, ModelError
from fl_sim.models.freezing import FROZEN_PARTS, freeze


@dataclass(frozen=True, kw_only=True)
class Freezing(Defence):
    """Train only what is not frozen: by default the last layer, on a body that stays as it is.

    Ziegler et al., "Defending against reconstruction attacks through differentially private
    federated learning for classification of heterogeneous chest X-ray data" (Sensors 2022),
    freeze parts of their networks. What is frozen is neither sent nor observed, running
    statistics included. Its use depends on the body: first weights that were drawn at random
    make poor features. The setting ``local.freeze`` as a defence, to be compared with others.

    Parameters
    ----------
    part : {"all-but-last", "middle", "batch-norm"}
        What is frozen; see :mod:`fl_sim.models.freezing`.
    """

    part: str = "all-but-last"

    protects = (
        "Leaves the server fewer gradients to look at. With the body frozen the last layer's "
        "still tells the encoding of a single image, from which an image can be sought. Earns "
        "no epsilon."
    )

    def __post_init__(self) -> None:
        parts = [part for part in FROZEN_PARTS if part != "none"]
        if self.part not in parts:
            raise DefenceError(f"part = {self.part!r}: must be one of {', '.join(parts)}")

    def model(self, model: Classifier) -> Classifier:
        """Return the model with the part frozen.

        Raises
        ------
        DefenceError
            If it has none, e.g. no batch normalisation.
        """
        try:
            return freeze(model, self.part)
        except ModelError as error:
            reason = str(error).partition(": ")[2]
            raise DefenceError(f"defence.part = {self.part!r}: {reason}") from error
