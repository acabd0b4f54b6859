"""What a run leaked by round, by client, and by both, for tables that stay short."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from adversary.report.leakage_rows import Row, closeness, judged, mean, points_to_patient
from adversary.scoring.verdict import Severity


@dataclass(frozen=True)
class Group:
    """What all attacks together learnt from some updates; the best reconstruction counts.

    Parameters
    ----------
    key : object
        The round, the client, or both.
    level : Level
        The verdict on them.
    best : Row
        The reconstruction that gives away the most.
    updates, images, failed : int
        Updates attacked, reconstructions, and attacks that failed.
    mean_psnr, reidentified : float or None
        Over the reconstructions; dB, and the share that points to the patient.
    """

    key: Any
    level: Severity
    best: Row
    updates: int
    images: int
    failed: int
    mean_psnr: float | None
    reidentified: float | None


@dataclass(frozen=True)
class WorstGroups:
    """The worst of some groups, in the order of their keys, and of how many."""

    groups: list[Group]
    of: int


@dataclass(frozen=True)
class Matrix:
    """Verdicts by client and round."""

    clients: list[str]
    rounds: list[int]
    cells: dict[tuple[str, int], Group]


def by_group(rows: Iterable[Row], *columns: str) -> list[Group]:
    """Return the groups of rows that share these columns, by their values in order."""
    parts: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        parts.setdefault(tuple(row[column] for column in columns), []).append(row)
    return [_group(key if len(columns) > 1 else key[0], parts[key]) for key in sorted(parts)]


def worst_of(groups: list[Group], limit: int) -> WorstGroups:
    """Return the ``limit`` groups that give away the most, still in the order of their keys."""
    chosen = sorted(groups, key=lambda group: closeness(group.best), reverse=True)[:limit]
    return WorstGroups(sorted(chosen, key=lambda group: group.key), len(groups))


def round_client_matrix(rows: Iterable[Row], clients: WorstGroups, rounds: WorstGroups) -> Matrix:
    """Return the verdicts of these clients in these rounds."""
    names, numbers = ([group.key for group in shown.groups] for shown in (clients, rounds))
    here = (row for row in rows if row["client"] in names and row["round"] in numbers)
    return Matrix(names, numbers, {group.key: group for group in by_group(here, "client", "round")})


def _group(key: Any, rows: list[Row]) -> Group:
    done = [row for row in rows if row["status"] == "ok"]
    return Group(
        key=key,
        level=judged(rows),
        best=max(rows, key=closeness),
        updates=len({(row["round"], row["client"]) for row in rows}),
        images=len(done),
        failed=len(rows) - len(done),
        mean_psnr=mean(row["psnr"] for row in done),
        reidentified=mean(points_to_patient(row) for row in done),
    )
