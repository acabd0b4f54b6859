"""Gaussian noise in proportion to the update."""

from __future__ import annotations

from dataclasses import dataclass

from adversary.observation.mechanisms import RelativeNoise
from fl_sim.defences.base import UpdateDefence


@dataclass(frozen=True, kw_only=True)
class GaussianNoise(RelativeNoise, UpdateDefence):
    """The defence of :class:`~adversary.observation.mechanisms.RelativeNoise`."""

    protects = (
        "Blurs what the server can reconstruct from one client's update. Earns no epsilon: the "
        "update is not clipped. Batch-norm statistics leave as they are."
    )
