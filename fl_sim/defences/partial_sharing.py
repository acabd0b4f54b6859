"""Partial sharing: a part of the model never leaves the client."""

from __future__ import annotations

from dataclasses import dataclass

from adversary.observation.mechanisms.base import DefenceError
from adversary.observation.mechanisms.kept_arrays import PARTS, KeptArrays
from fl_sim.defences.base import UpdateDefence
from fl_sim.models import Classifier


@dataclass(frozen=True, kw_only=True)
class PartialSharing(KeptArrays, UpdateDefence):
    """Keep a part of the model with the client, which goes on training its own.

    Batch normalisation: FedBN (Li et al., ICLR 2021). The last layer: FedPer (Arivazhagan et al.
    2019). All but the last layer: LG-FedAvg (Liang et al. 2020).

    Flower's strategies average arrays by name and want all of them from everybody. So what is
    kept is returned as the server sent it: a delta of zero, which carries nothing, whatever the
    client trained. The client keeps its own arrays in its Flower context and puts them in place
    of the server's in every round. From the second round on the server does not know them, and an
    attacker that goes on with those it sent is off by how far the client has moved.

    Parameters
    ----------
    local : {"head", "body", "batch-norm"}
        The part that stays.
    """

    protects = (
        "Keeps a part of the model from everybody else, the server included; what is shared "
        "still gives images away, and labels leave with the last layer alone. Earns no epsilon."
    )

    def __post_init__(self) -> None:
        if self.local not in PARTS:
            raise DefenceError(f"local = {self.local!r}: must be one of {', '.join(PARTS)}")

    def model(self, model: Classifier) -> Classifier:
        """Return the model, once it is known to have the part.

        Raises
        ------
        DefenceError
            If it has none, e.g. no batch normalisation.
        """
        if not self.personal(model.state_dict()):
            raise DefenceError(
                f"defence.local = {self.local!r}: this model has no {self.local}; must "
                f"be another of {', '.join(PARTS)}"
            )
        return model
