"""The pictures of a report: the worst reconstructions, and how they came about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from adversary.report import pictures
from adversary.report.leakage_rows import Row, closeness
from adversary.storage.run_folder import RunFolder

MAX_CARDS = 24
"""Reconstructions shown; of the others there are figures."""

MAX_STRIPS = 3
"""Processes shown, of the worst reconstructions that have one."""


@dataclass(frozen=True)
class Card:
    """One reconstruction: its row of leakage.csv and its pictures as data URIs, or empty."""

    row: Row
    truth: str
    reconstruction: str
    error: str
    bound: str
    worst_pixel: float | None


@dataclass(frozen=True)
class Strip:
    """How a reconstruction came about: one picture of all steps, and where all trials are.

    Parameters
    ----------
    row : Row
        The reconstruction.
    picture : str
        Of the trial that the attacker chose, as a data URI.
    steps : int
        Steps that this trial took.
    place : str
        Folder of the pictures of all trials, from the run's folder.
    """

    row: Row
    picture: str
    steps: int
    place: str


def select_cards(rows: Iterable[Row]) -> list[Row]:
    """Return the reconstructions to show, worst first, at most :data:`MAX_CARDS`.

    The worst of each update and attack come before the second worst of any, so that one large
    batch does not hide all other clients.
    """
    updates: dict[tuple[int, str, str], list[Row]] = {}
    for row in rows:
        if row["status"] == "ok":
            updates.setdefault((row["round"], row["client"], row["attack"]), []).append(row)
    placed = [
        (-place, closeness(row), row)
        for update in updates.values()
        for place, row in enumerate(sorted(update, key=closeness, reverse=True))
    ]
    placed.sort(key=lambda one: one[:2], reverse=True)
    return sorted((row for _, _, row in placed[:MAX_CARDS]), key=closeness, reverse=True)


def cards(folder: RunFolder, rows: Sequence[Row]) -> list[Card]:
    """Return the rows with their pictures."""
    return [_card(folder.images(row["round"], row["client"], row["attack"]), row) for row in rows]


def strips(folder: RunFolder, rows: Sequence[Row]) -> list[Strip]:
    """Return the processes of the first rows that have one, of the trial that was chosen."""
    found: list[Strip] = []
    for row in rows:
        where = row["round"], row["client"], row["attack"]
        trials = history(folder, row)
        if len(found) == MAX_STRIPS or trials.empty or not folder.process(*where).is_dir():
            continue
        trial = int(trials.sort_values("score")["restart"].iloc[0])
        place = folder.process(*where)
        picture = pictures.read(place / f"trial-{trial:02d}-image-{row['image']:02d}.png")
        if picture is not None:
            steps = int(trials.loc[trials["restart"] == trial, "iteration"].max())
            beneath = place.relative_to(folder.path).as_posix()
            found.append(Strip(row, pictures.palette(picture), steps, beneath))
    return found


def history(folder: RunFolder, row: Row) -> pd.DataFrame:
    """Return restart, iteration and score of the attack behind a row; empty where not kept."""
    columns = ["restart", "iteration", "score"]
    try:
        steps = pd.read_csv(folder.history(row["round"], row["client"], row["attack"]))
        return steps[columns].astype(float).dropna()
    except (OSError, ValueError, KeyError):
        return pd.DataFrame({column: pd.Series(dtype=float) for column in columns})


def _card(place: Path, row: Row) -> Card:
    truth, found, bound = (
        pictures.read(pictures.picture_path(place, kind, row["image"]))
        for kind in ("truth", "reconstruction", "bound")
    )
    error, worst_pixel = None, None
    if truth is not None and found is not None and truth.shape == found.shape:
        error = pictures.error_map(truth, found)
        worst_pixel = float(pictures.absolute_error(truth, found).max())
    return Card(
        row,
        truth=_thumbnail(truth),
        reconstruction=_thumbnail(found),
        error=_thumbnail(error),
        bound=_thumbnail(bound),
        worst_pixel=worst_pixel,
    )


def _thumbnail(image: pictures.Pixels | None) -> str:
    return "" if image is None else pictures.thumbnail(image)
