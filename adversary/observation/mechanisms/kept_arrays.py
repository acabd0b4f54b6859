"""Arrays that never leave the client."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch

from adversary.common.types import StateDict
from adversary.observation.channel import Channel
from adversary.observation.mechanisms.base import Mechanism
from adversary.observation.observation import Observation

Names = Collection[str]


def _owner(name: str) -> str:
    return name.rpartition(".")[0]


def _batch_norm(names: Names) -> frozenset[str]:
    norms = {_owner(n) for n in names if n.endswith(".running_mean")}
    return frozenset(n for n in names if _owner(n) in norms)


def _head(names: Names) -> frozenset[str]:
    return frozenset(n for n in names if _owner(n) == "head")


def _body(names: Names) -> frozenset[str]:
    return frozenset(names) - _head(names)


PARTS: dict[str, Callable[[Names], frozenset[str]]] = {
    "head": _head,
    "body": _body,
    "batch-norm": _batch_norm,
}
"""From the names of a state dict to those of a part: the last layer, all but the last layer, or
the weights and statistics of batch normalisation."""


@dataclass(frozen=True, kw_only=True)
class KeptArrays(Mechanism):
    """Return a part of the model as the server sent it: a delta of zero, which carries nothing.

    Flower's strategies average arrays by name and want all of them from everybody.

    Parameters
    ----------
    local : str
        The part that stays: one of :data:`PARTS`, or a pattern of names such as ``fc.*``.
    """

    local: str = "head"

    def personal(self, names: Names) -> frozenset[str]:
        """Return the names of the part that stays."""
        if self.local in PARTS:
            return PARTS[self.local](names)
        return frozenset(name for name in names if fnmatchcase(name, self.local))

    def release(
        self, sent: StateDict, returned: StateDict, *, generator: torch.Generator
    ) -> StateDict:
        """Return the shared part as trained, and the rest as it was sent."""
        kept = self.personal(returned)
        return {name: sent[name] if name in kept else value for name, value in returned.items()}

    def channel(self, observation: Observation) -> Channel:
        """Return that nothing of the part is observed."""
        returned = observation.returned
        return Channel(
            observed={
                name: torch.zeros(returned[name].shape, dtype=torch.bool)
                for name in sorted(self.personal(returned))
            }
        )
