"""Rows of a run's tables as the report's parts take them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from adversary.identification.ceilings import private_power
from adversary.scoring.identification_scores import ALARMS
from adversary.scoring.verdict import Evidence, Severity, severity_of, worst_of

Row = dict[str, Any]
"""A row by column, None where a value is missing."""

SERVER_INCLUDED = "server included"
"""Words by which accounts.csv says that a guarantee holds against the server."""


def records(frame: pd.DataFrame) -> list[Row]:
    """Return the rows as plain Python values, None where missing."""
    plain = frame.astype(object).where(frame.notna(), None)
    return [{str(k): v for k, v in row.items()} for row in plain.to_dict("records")]


def with_levels(leakage: pd.DataFrame, accounts: Sequence[Row] = ()) -> list[Row]:
    """Return the rows of leakage.csv, each with its ``level`` and its ``ceiling``.

    Parameters
    ----------
    leakage : DataFrame
        Rows of leakage.csv.
    accounts : sequence of dict
        Each client's last row of accounts.csv: what all rounds together may tell the server.
    """
    ceilings = private_ceilings(accounts)
    rows = [{**row, "ceiling": ceilings.get(row["client"])} for row in records(leakage)]
    return [{**row, "level": severity_of(Evidence.of(row))} for row in rows]


def last_accounts(accounts: pd.DataFrame) -> list[Row]:
    """Return each client's last account, the largest loss first."""
    last = accounts.sort_values("round").drop_duplicates("client", keep="last")
    return records(last.sort_values(["epsilon", "client"], ascending=[False, True]))


def private_ceilings(accounts: Iterable[Row]) -> Mapping[str, float]:
    """Return the most that a test of membership by the server names at 1 % false alarms, by client.

    Clients whose mechanism earns no finite epsilon, or none against the server, are left out.
    """
    return {
        row["client"]: private_ceiling(row["epsilon"], row["delta"] or 0.0)
        for row in accounts
        if row["epsilon"] is not None
        and math.isfinite(row["epsilon"])
        and SERVER_INCLUDED in (row["against"] or "")
    }


def judged(rows: Iterable[Row]) -> Severity:
    """Return the verdict on what the rows tell of: the worst of their images.

    Of an image the most revealing attack counts. An update whose attacks all failed, and an image
    without a figure, keep the others from being called protected.
    """
    rows = list(rows)
    images: dict[tuple[Any, ...], Severity] = {}
    for row in rows:
        if row["status"] == "ok":
            image = row["round"], row["client"], row.get("image")
            images[image] = max(row["level"], images.get(image, Severity.UNKNOWN))
    missed = {(row["round"], row["client"]) for row in rows} - {image[:2] for image in images}
    return worst_of([*images.values(), *(Severity.UNKNOWN for _ in missed)])


def private_ceiling(epsilon: float, delta: float) -> float:
    """Return the most that any test of membership can name at 1 % false alarms."""
    return private_power(epsilon, delta, ALARMS)


def points_to_patient(row: Row) -> bool | None:
    """Return whether the picture or its negative is re-identified; None where it is not known."""
    known = [row[name] for name in ("reidentified", "negative") if row.get(name) is not None]
    return any(known) if known else None


def closeness(row: Row) -> tuple[Severity, float, float]:
    """Order rows by how much they give away; without truth, by the attacker's own score."""
    score = math.inf if row["score"] is None else row["score"]
    return row["level"], -math.inf if row["psnr"] is None else row["psnr"], -score


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
