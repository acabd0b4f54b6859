"""What a defence is."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from adversary.observation import StateDict

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class DefenceError(ValueError):
    """A defence that cannot be made as asked; one line."""


class Defence(ABC):
    """A change to what leaves the client.

    A defence is a frozen dataclass with keyword-only parameters: its fields, with their types,
    are the options that a user can set.

    Attributes
    ----------
    protects : str
        What it protects against whom, and what it does not, in a sentence for the report.
    """

    protects: ClassVar[str]

    @abstractmethod
    def apply(
        self, sent: StateDict, returned: StateDict, *, generator: torch.Generator
    ) -> StateDict:
        """Return what leaves the client in place of ``returned``.

        Parameters
        ----------
        sent, returned : dict of str to Tensor
            The state dicts that the client received and trained, on the CPU; left as they are.
        generator : torch.Generator
            The only source of randomness.
        """

    def describe(self) -> dict[str, bool | int | float | str]:
        """Return the parameters by name, for the report."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]


def is_buffer(name: str, value: Tensor) -> bool:
    """Return whether an array of a state dict is a count or a running statistic.

    Those are not trained: noise or clipping meant for weights would make counts fractional and
    variances negative.
    """
    return not value.is_floating_point() or name.rpartition(".")[2] in _STATISTICS
