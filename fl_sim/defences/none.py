"""No defence."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from adversary.observation import StateDict
from fl_sim.defences.base import Defence


@dataclass(frozen=True, kw_only=True)
class NoDefence(Defence):
    """Send the weights as they were trained."""

    protects = "Nothing: the server receives the weights as they were trained."

    def apply(
        self, sent: StateDict, returned: StateDict, *, generator: torch.Generator
    ) -> StateDict:
        """Return ``returned`` itself."""
        return returned
