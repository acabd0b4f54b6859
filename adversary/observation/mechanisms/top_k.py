"""Gradient pruning: only the largest entries of the update are sent."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from adversary.common.types import StateDict
from adversary.observation.channel import Channel
from adversary.observation.mechanisms.base import DefenceError, Mechanism, is_buffer, weight_changes
from adversary.observation.observation import Observation

SCOPES = ("array", "global")


@dataclass(frozen=True, kw_only=True)
class TopK(Mechanism):
    """Send the largest entries of the update; every other weight stays as the server sent it.

    Gradient sparsification of Lin et al., "Deep gradient compression" (ICLR 2018), which Zhu et
    al., "Deep leakage from gradients" (NeurIPS 2019), found to help as a defence; here without
    residuals and momentum correction, so what is not sent is lost.

    Parameters
    ----------
    share : float
        Share of the entries that are sent, > 0 and <= 1; 1 sends everything.
    scope : {"array", "global"}
        Whether every array sends its own largest entries, or all arrays compete.
    """

    share: float = 0.1
    scope: str = "array"

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise DefenceError(f"share = {self.share}: must be a number > 0 and <= 1")
        if self.scope not in SCOPES:
            raise DefenceError(f"scope = {self.scope!r}: must be one of {', '.join(SCOPES)}")

    def release(
        self, sent: StateDict, returned: StateDict, *, generator: torch.Generator
    ) -> StateDict:
        """Return the weights with only the largest entries changed; buffers as they are."""
        moved = {name: delta.abs() for name, delta in weight_changes(sent, returned).items()}
        kept = self._kept(moved)
        return {
            name: torch.where(kept[name], value, sent[name]) if name in kept else value
            for name, value in returned.items()
        }

    def channel(self, observation: Observation) -> Channel:
        """Return which entries were sent: those that moved."""
        if self.share == 1:
            return Channel()
        return Channel(
            observed={
                name: value != observation.sent[name]
                for name, value in observation.returned.items()
                if not is_buffer(name, value)
            }
        )

    def _kept(self, moved: StateDict) -> StateDict:
        if self.scope == "array":
            return {name: _largest(value, self.share) for name, value in moved.items()}
        flat = torch.cat([value.flatten() for value in moved.values()])
        parts = _largest(flat, self.share).split([value.numel() for value in moved.values()])
        return {n: part.view_as(moved[n]) for n, part in zip(moved, parts, strict=True)}


def _largest(values: Tensor, share: float) -> Tensor:
    """Return a mask of the largest entries, as many as ``share`` of them, rounded up."""
    mask = torch.zeros(values.numel(), dtype=torch.bool)
    mask[values.flatten().topk(math.ceil(share * values.numel())).indices] = True
    return mask.view_as(values)
