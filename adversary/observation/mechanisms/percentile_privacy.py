"""Only the entries above a percentile are sent, and none beyond a limit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from adversary.common.types import StateDict
from adversary.observation.channel import Channel
from adversary.observation.mechanisms.base import DefenceError, Mechanism, is_buffer, weight_changes
from adversary.observation.observation import Observation

_AT_THE_LIMIT = 1 - 1e-3
"""Share of gamma from which an entry received counts as cut off, for float32 rounds it."""


@dataclass(frozen=True, kw_only=True)
class PercentilePrivacy(Mechanism):
    """Send the entries whose magnitude reaches a percentile of all, cut off at ``gamma``.

    The largest percentile to share of Shokri and Shmatikov, "Privacy-preserving deep learning"
    (CCS 2015), as NVFlare's filter PercentilePrivacy has it. Departures: ``gamma`` limits the whole
    update, not its mean over local steps; counts and running statistics are left out.

    Parameters
    ----------
    percentile : float
        Of the magnitudes of all arrays' entries together, >= 0 and < 100; smaller ones stay at
        home.
    gamma : float
        Largest change of a weight that is sent, > 0.
    """

    percentile: float = 10.0
    gamma: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.percentile < 100:
            raise DefenceError(f"percentile = {self.percentile}: must be a number >= 0 and < 100")
        if not self.gamma > 0 or math.isnan(self.gamma):
            raise DefenceError(f"gamma = {self.gamma}: must be a number > 0")

    def release(
        self, sent: StateDict, returned: StateDict, *, generator: torch.Generator
    ) -> StateDict:
        """Return the weights changed by what is shared; buffers as they are."""
        deltas = weight_changes(sent, returned)
        entries = torch.cat([delta.abs().flatten() for delta in deltas.values()])
        cutoff = float(np.percentile(entries.numpy(), self.percentile))
        left = dict(returned)
        for name, delta in deltas.items():
            shared = (sent[name].double() + delta.clamp(-self.gamma, self.gamma)).to(
                returned[name].dtype
            )
            whole = torch.where(delta.abs() <= self.gamma, returned[name], shared)
            left[name] = torch.where(delta.abs() >= cutoff, whole, sent[name])
        return left

    def channel(self, observation: Observation) -> Channel:
        """Return which entries came as they are: those that moved, by less than ``gamma``.

        Of those that were cut off the sign is left unused.
        """
        observed = {}
        for name, value in observation.returned.items():
            if not is_buffer(name, value):
                moved = (value.double() - observation.sent[name].double()).abs()
                observed[name] = (moved > 0) & (moved < _AT_THE_LIMIT * self.gamma)
        return Channel(observed=observed)
