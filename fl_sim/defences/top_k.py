"""Gradient pruning: only the largest entries of the update are sent."""

from __future__ import annotations

from dataclasses import dataclass

from adversary.observation import mechanisms
from fl_sim.defences.base import UpdateDefence


@dataclass(frozen=True, kw_only=True)
class TopK(mechanisms.TopK, UpdateDefence):
    """The defence of :class:`adversary.observation.mechanisms.TopK`."""

    protects = (
        "Keeps the smaller entries of an update from the server, which still sees the largest, "
        "their places included: reconstructions get coarser, not impossible. Earns no epsilon. "
        "Batch-norm statistics leave as they are."
    )
