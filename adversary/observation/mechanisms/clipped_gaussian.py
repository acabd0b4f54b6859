"""A clipped update with Gaussian noise: the Gaussian mechanism, in the client."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from adversary.common.types import StateDict
from adversary.observation.channel import Channel, apply_clipping
from adversary.observation.mechanisms.base import DefenceError, Mechanism, is_buffer, weight_changes
from adversary.observation.observation import Observation


@dataclass(frozen=True, kw_only=True)
class ClippedGaussian(Mechanism):
    r"""Clip the whole update to an L2 norm and add Gaussian noise.

    delta min(1, clip / ||delta||) + N(0, (noise_multiplier clip)^2), the norm over all trained
    arrays together (McMahan et al., "Learning differentially private recurrent language models",
    ICLR 2018, flat clipping). Counts and running statistics are no weights and stay as they are.

    Parameters
    ----------
    clip : float
        C, the largest L2 norm of an update, in units of the weights, > 0.
    noise_multiplier : float
        Standard deviation of the noise over ``clip``, >= 0.
    """

    clip: float = 1.0
    noise_multiplier: float = 0.1

    def __post_init__(self) -> None:
        for name, valid, allowed in (
            ("clip", 0 < self.clip < math.inf, "a number > 0"),
            ("noise_multiplier", 0 <= self.noise_multiplier < math.inf, "a number >= 0"),
        ):
            if not valid:
                raise DefenceError(f"{name} = {getattr(self, name)}: must be {allowed}")

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise on each entry, in units of the weights."""
        return self.noise_multiplier * self.clip

    def release(
        self, sent: StateDict, returned: StateDict, *, generator: torch.Generator
    ) -> StateDict:
        """Return the weights after a clipped and noisy update; buffers as they are."""
        deltas = weight_changes(sent, returned)
        bounded = apply_clipping(deltas, self.clip)
        return {
            name: self._noisy(sent[name], bounded[name], generator) if name in bounded else value
            for name, value in returned.items()
        }

    def channel(self, observation: Observation) -> Channel:
        """Return the clipping norm and the noise: both are public."""
        noise = {
            name: self.sigma
            for name, value in observation.returned.items()
            if self.sigma and not is_buffer(name, value)
        }
        return Channel(clip=self.clip, noise=noise)

    def _noisy(self, sent: Tensor, delta: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(delta.shape, generator=generator, dtype=torch.float64)
        return (sent.double() + delta + self.sigma * noise).to(sent.dtype)
