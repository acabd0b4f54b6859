"""Rows of results: read from their files, and found by what they are of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]


class ResultError(ValueError):
    """Results of which no page can be made; the message says why, in one line."""


def read(path: Path) -> Any:
    """Return a JSON file's value, or the list of values of one with a value a line.

    Raises
    ------
    ResultError
        If the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in text.splitlines()]
        return json.loads(text)
    except (OSError, ValueError) as error:
        raise ResultError(f"no page can be made of it ({error})") from error


def having(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    """Return the rows that have these values; a row without a key has None for it."""
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def only(rows: Iterable[Row], **wanted: Any) -> Row:
    """Return the one row that has these values.

    Raises
    ------
    ResultError
        If there is none, or more than one.
    """
    found = having(rows, **wanted)
    if len(found) != 1:
        raise ResultError(f"{len(found)} rows of {wanted}: must be one")
    return found[0]
