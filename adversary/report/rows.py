"""Rows of a run's tables as the report's parts take them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

from adversary.report.verdict import Evidence, Level, level

Row = dict[str, Any]
"""A row by column, None where a value is missing."""


def records(frame: pd.DataFrame) -> list[Row]:
    """Return the rows as plain Python values, None where missing."""
    plain = frame.astype(object).where(frame.notna(), None)
    return [{str(k): v for k, v in row.items()} for row in plain.to_dict("records")]


def levelled(leakage: pd.DataFrame) -> list[Row]:
    """Return the rows of leakage.csv, each with its ``level``."""
    told = [field.name for field in dataclasses.fields(Evidence)]
    return [
        {**row, "level": level(Evidence(**{name: row.get(name) for name in told}))}
        for row in records(leakage)
    ]


def closeness(row: Row) -> tuple[Level, float, float]:
    """Order rows by how much they give away; without truth, by the attacker's own score."""
    score = math.inf if row["score"] is None else row["score"]
    return row["level"], -math.inf if row["psnr"] is None else row["psnr"], -score


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
