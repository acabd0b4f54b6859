"""Reading index files that users wrote."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from fl_sim.data.errors import DataError


def read_table(path: Path, required: Collection[str]) -> pd.DataFrame:
    """Return a CSV file as strings, an empty cell as ``""``.

    Raises
    ------
    DataError
        If it cannot be read, has no rows or lacks a required column.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        reason = str(error).strip().partition("\n")[0]
        raise DataError(f"{path}: cannot be read as CSV ({reason})") from None
    require_columns(table, required, path)
    if table.empty:
        raise DataError(f"{path}: has no rows")
    return table


def require_columns(table: pd.DataFrame, required: Collection[str], path: Path) -> None:
    """Raise :class:`DataError` for the columns that a table lacks."""
    missing = [column for column in required if column not in table.columns]
    if missing:
        raise DataError(
            f"{path}: has no column {', '.join(map(repr, missing))}; its columns are"
            f" {', '.join(map(repr, table.columns))}"
        )


def inside(folder: Path, name: str, table: Path) -> Path:
    """Return the file that a table names, which has to lie in the table's own folder.

    Raises
    ------
    DataError
        If it leads out of the folder, by ``..``, an absolute path or a link, or does not exist.
    """
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise DataError(f"{table}: path '{name}' leads out of the folder {folder}")
    if not path.is_file():
        raise DataError(f"{table}: path '{name}': no such file in {folder}")
    return path
