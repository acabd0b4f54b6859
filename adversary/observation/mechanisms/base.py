"""What a mechanism is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from adversary.common.errors import UserError
from adversary.common.types import StateDict
from adversary.observation.channel import Channel
from adversary.observation.observation import Observation

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class DefenceError(UserError, ValueError):
    """A defence that cannot be made as asked; one line."""


class Mechanism(ABC):
    """A change to an update, on its way from a client to the server.

    A frozen dataclass with keyword-only parameters, which the whole federation knows.
    """

    @abstractmethod
    def release(
        self, sent: StateDict, returned: StateDict, *, generator: torch.Generator
    ) -> StateDict:
        """Return what leaves the client in place of ``returned``; neither is changed.

        Parameters
        ----------
        sent, returned : dict of str to Tensor
            The state dicts that the client received and that it trained, on the CPU; every array
            of ``returned`` is in ``sent``.
        generator : torch.Generator
            The only source of randomness.
        """

    def channel(self, observation: Observation) -> Channel:
        """Return the noise model for one update, as an attacker knows it.

        It has the parameters of the mechanism and the update that it received, nothing else.
        """
        return Channel()


@dataclass(frozen=True, kw_only=True)
class Nothing(Mechanism):
    """Send what was trained."""

    def release(
        self, sent: StateDict, returned: StateDict, *, generator: torch.Generator
    ) -> StateDict:
        """Return ``returned``."""
        return returned


def is_buffer(name: str, value: Tensor) -> bool:
    """Return whether an array of a state dict is a count or a running statistic.

    Those are not trained: noise or clipping meant for weights would make counts fractional and
    variances negative.
    """
    return not value.is_floating_point() or name.rpartition(".")[2] in _STATISTICS


def weight_changes(sent: StateDict, returned: StateDict) -> StateDict:
    """Return what was added to each weight, in float64; buffers are left out."""
    return {
        name: value.double() - sent[name].double()
        for name, value in returned.items()
        if not is_buffer(name, value)
    }


def received(sent: StateDict, returned: StateDict) -> StateDict:
    """Return ``sent`` in the types in which a client returns it.

    Averaging turns integer buffers (``num_batches_tracked``) and some strategies all arrays into
    float64; a client that loads them into its model rounds them to the model's types.
    """
    return {
        name: value.to(returned[name].dtype) if name in returned else value
        for name, value in sent.items()
    }
