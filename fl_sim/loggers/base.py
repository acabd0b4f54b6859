"""Logger interface."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from adversary.report.ledger import ByRound

TRAINING = ("loss", "auc", "client_loss", "client_auc", "epsilon", "lr", "seconds")
"""Columns of rounds.csv that are logged."""


class Logger(ABC):
    """Writes figures by name and round; a :class:`~adversary.report.ledger.RunListener`."""

    @abstractmethod
    def scalars(self, figures: Mapping[str, float | None], round: int) -> None:
        """Write the figures of a round; see :func:`known`."""

    @abstractmethod
    def end(self, status: str) -> None:
        """End with the run, which was ``completed``, ``failed`` or ``stopped``."""

    def round_done(self, round: int, row: Mapping[str, Any]) -> None:
        """Write what became of a round's training."""
        self.scalars({f"training/{name}": row.get(name) for name in TRAINING}, round)

    def closed(self, status: str, leakage: ByRound) -> None:
        """Write what attacks got, round by round, and end."""
        for (round, attack), figures in leakage.items():
            named = {f"leakage/{attack}/{name}": value for name, value in figures.items()}
            self.scalars(named, round)
        self.end(status)


def known(figures: Mapping[str, float | None]) -> dict[str, float]:
    """Return the figures that there are."""
    return {
        name: float(value)
        for name, value in figures.items()
        if value is not None and math.isfinite(value)
    }
