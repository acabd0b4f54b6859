"""Gaussian noise in proportion to a percentile of the update."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch

from adversary.common.types import StateDict
from adversary.observation.channel import Channel
from adversary.observation.mechanisms.base import DefenceError, Mechanism, is_buffer, weight_changes
from adversary.observation.observation import Observation


@dataclass(frozen=True, kw_only=True)
class PercentileNoise(Mechanism):
    r"""Add to every weight noise of ``scale`` times a percentile of the update's entries.

    The defence of Hatamizadeh et al., "Do gradient inversion attacks make federated learning
    unsafe?" (IEEE TMI 2023), as NVFlare ships it: sigma = scale Q_p(abs(delta)), the percentile
    over the entries of all arrays together that are not zero. Departure: counts and running
    statistics are left out.

    Parameters
    ----------
    scale : float
        Standard deviation of the noise over the percentile, >= 0.
    percentile : float
        p, > 0 and < 100.
    """

    scale: float = 0.1
    percentile: float = 95.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale >= 0):
            raise DefenceError(f"scale = {self.scale}: must be a number >= 0")
        if not 0 < self.percentile < 100:
            raise DefenceError(f"percentile = {self.percentile}: must be a number > 0 and < 100")

    def release(
        self, sent: StateDict, returned: StateDict, *, generator: torch.Generator
    ) -> StateDict:
        """Return the weights with noise; counts and running statistics stay."""
        entries = _entries(sent, returned)
        sigma = self.scale * self._percentile(entries[entries > 0])
        if not sigma:
            return returned
        left = {}
        for name, value in returned.items():
            left[name] = value
            if not is_buffer(name, value):
                noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
                left[name] = (value.double() + sigma * noise).to(value.dtype)
        return left

    def channel(self, observation: Observation) -> Channel:
        r"""Return the noise as the received update tells it.

        The percentile is that of the client's delta, the server has y = delta + sigma n. For a
        normal delta of standard deviation s and z = Phi^-1((1 + p / 100) / 2),
        Q_p(abs(delta)) = z s and Q_p(abs(y)) = z sqrt(s^2 + sigma^2), which with
        sigma = scale z s solves to sigma = scale Q_p(abs(y)) / sqrt(1 + (scale z)^2). That is
        right in both limits for any delta: without noise y is delta, and under much noise y is
        normal.
        """
        entries = _entries(observation.sent, observation.returned)
        z = NormalDist().inv_cdf((1 + self.percentile / 100) / 2)
        sigma = self.scale * self._percentile(entries[entries > 0]) / math.hypot(1, self.scale * z)
        return Channel(
            noise={
                name: sigma
                for name, value in observation.returned.items()
                if sigma and not is_buffer(name, value)
            }
        )

    def _percentile(self, entries: np.ndarray) -> float:
        return float(np.percentile(entries, self.percentile)) if entries.size else 0.0


def _entries(sent: StateDict, returned: StateDict) -> np.ndarray:
    """Return how far each weight moved, all arrays in one."""
    moved = [delta.abs().flatten() for delta in weight_changes(sent, returned).values()]
    return torch.cat(moved).numpy()
