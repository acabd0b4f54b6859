"""Gaussian noise in proportion to a percentile of the update."""

from __future__ import annotations

from dataclasses import dataclass

from adversary.observation import mechanisms
from fl_sim.defences.base import UpdateDefence


@dataclass(frozen=True, kw_only=True)
class PercentileNoise(mechanisms.PercentileNoise, UpdateDefence):
    """The defence of :class:`adversary.observation.mechanisms.PercentileNoise`."""

    protects = (
        "Blurs what the server can reconstruct from one client's update, the small arrays most. "
        "Earns no epsilon: the update is not clipped. Batch-norm statistics leave as they are."
    )
