"""Gaussian noise in proportion to the update."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from adversary.common.types import StateDict
from adversary.observation.channel import Channel
from adversary.observation.mechanisms.base import DefenceError, Mechanism, is_buffer
from adversary.observation.observation import Observation


@dataclass(frozen=True, kw_only=True)
class RelativeNoise(Mechanism):
    """Add to each trained array noise of ``scale`` times the root mean square of its update.

    The defence of Zhu et al. 2019 ("Deep Leakage from Gradients"), with a level that means the
    same for every layer and learning rate. The noise grows with the update and the update is not
    clipped, so no image's influence is bounded: this is no differentially private mechanism.

    Parameters
    ----------
    scale : float
        Standard deviation of the noise over the rms of the update, >= 0.
    """

    scale: float = 0.1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale >= 0):
            raise DefenceError(f"scale = {self.scale}: must be a number >= 0")

    def release(
        self, sent: StateDict, returned: StateDict, *, generator: torch.Generator
    ) -> StateDict:
        """Return the weights with noise on every array but counts and running statistics."""
        return {
            name: value if is_buffer(name, value) else self._noisy(sent[name], value, generator)
            for name, value in returned.items()
        }

    def channel(self, observation: Observation) -> Channel:
        """Return the noise: of the rms that is received, a share scale / sqrt(1 + scale^2)."""
        share = self.scale / math.hypot(1, self.scale)
        return Channel(
            noise={
                name: share * _rms(observation.sent[name], value)
                for name, value in observation.returned.items()
                if not is_buffer(name, value)
            }
        )

    def _noisy(self, sent: Tensor, returned: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(returned.shape, generator=generator, dtype=torch.float64)
        scale = self.scale * _rms(sent, returned)
        return (returned.double() + scale * noise).to(returned.dtype)


def _rms(sent: Tensor, returned: Tensor) -> float:
    return float((returned.double() - sent.double()).square().mean().sqrt())
