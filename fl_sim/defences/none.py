"""No defence."""

from __future__ import annotations

from dataclasses import dataclass

from fl_sim.defences.base import Defence


@dataclass(frozen=True, kw_only=True)
class NoDefence(Defence):
    """Send the weights as they were trained."""

    protects = "Nothing: the server receives the weights as they were trained."
    alters_updates = False
