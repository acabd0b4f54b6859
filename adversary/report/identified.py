"""Who can be named, as identification.csv has it: by hospital and round, and all rounds joined."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from adversary.identification.figures import interval
from adversary.report.leakage_rows import Row, records
from adversary.scoring.identification_scores import ALARMS


@dataclass(frozen=True, kw_only=True)
class Named:
    """A line of identification.csv, with what it means.

    Parameters
    ----------
    row : dict
        By column, None where a value is missing; a row of all rounds has no ``round``.
    hits : int
        Patients named at one false alarm in a hundred, of ``row["members"]``.
    low, high : float
        Exact 95 % interval of that share.
    """

    row: Row
    hits: int
    low: float
    high: float

    @property
    def beyond_chance(self) -> bool:
        """Whether more are named than false alarms would be."""
        return self.low > ALARMS

    @property
    def words(self) -> str:
        """It in a clause."""
        rounds = "all rounds joined" if self.row["round"] is None else f"round {self.row['round']}"
        return (
            f"{self.hits} of {self.row['members']} patients of {self.row['client']} at one false "
            f"alarm in a hundred ({rounds})"
        )


def lines(frame: pd.DataFrame) -> list[Named]:
    """Return the rows of identification.csv that have a figure, by client, joined rounds first."""
    found = [_named(row) for row in records(frame) if row["tpr_1"] is not None]
    return sorted(found, key=lambda one: (one.row["client"], one.row["round"] or 0))


def strongest(found: Iterable[Named]) -> Named | None:
    """Return the line whose share is largest for sure; None where nobody is named beyond chance."""
    beyond = [one for one in found if one.beyond_chance]
    return max(beyond, key=lambda one: (one.low, one.row["round"] is None), default=None)


def _named(row: Row) -> Named:
    hits = round(row["tpr_1"] * row["members"])
    low, high = interval(hits, row["members"])
    return Named(row=row, hits=hits, low=low, high=high)
