"""Quantisation of the update, down to its signs."""

from __future__ import annotations

from dataclasses import dataclass

from adversary.observation.mechanisms import Quantised
from fl_sim.defences.base import UpdateDefence


@dataclass(frozen=True, kw_only=True)
class Quantise(Quantised, UpdateDefence):
    """The defence of :class:`~adversary.observation.mechanisms.Quantised`."""

    protects = (
        "Hides from the server what is finer than a level: next to nothing with 8 bits, the "
        "magnitudes with 1. Earns no epsilon. Batch-norm statistics leave as they are."
    )
