"""Reading index files that users wrote."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from fl_sim.data.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

LARGEST_TABLE = 2 * 2**30
"""Bytes; that of CheXpert Plus holds whole reports."""

SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_SEPARATORS = (",", ";", "\t", "|")
_MARKS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}


def is_table(path: Path) -> bool:
    """Whether a file is a table by its ending."""
    return path.name.lower().endswith(SUFFIXES)


def read_table(path: Path, required: Collection[str]) -> pd.DataFrame:
    """Return a table as strings without blanks around them, an empty cell as ``""``.

    Commas, semicolons, tabs and bars may separate cells, and any Unicode encoding or that of
    Windows may be used. Columns without a name are left out, and so are empty rows; the index
    counts all rows, 0 being the one below the head.

    Raises
    ------
    DataError
        If it cannot be read, has no rows or lacks a required column.
    """
    import pandas as pd  # slow to import

    text = _text(path)
    head, *rows = _records(text, path)
    names = [name.strip() for name in head[1]]
    repeated = [name for name in names if name and names.count(name) > 1]
    if repeated:
        raise DataError(f"{path}: column '{repeated[0]}' is there twice")
    for number, cells in rows:
        if len(cells) > len(names):
            raise DataError(
                f"{path}: row {number} has {len(cells)} cells, more than the {len(names)} of the"
                " head"
            )
    filled = [[*cells, *[""] * (len(names) - len(cells))] for _, cells in rows]
    table = pd.DataFrame(filled, columns=names, index=[n - 2 for n, _ in rows], dtype=str)
    table = table.loc[:, [bool(n) and not n.startswith("Unnamed:") for n in names]]
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


def _text(path: Path) -> str:
    """Return the text of a file, whatever Unicode encoding it has."""
    try:
        with path.open("rb") as packed:
            zipped = path.suffix.lower() == ".gz"
            file = gzip.GzipFile(fileobj=packed) if zipped else packed
            content = file.read(LARGEST_TABLE + 1)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read as CSV ({reason})") from None
    if len(content) > LARGEST_TABLE:
        raise DataError(f"{path}: larger than the {LARGEST_TABLE} bytes that are allowed")
    try:
        text = content.decode(_encoding(content))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: cannot be read as CSV ({error.reason})") from None
    if "\0" in text:
        row = text[: text.index("\0")].count("\n") + 1
        raise DataError(f"{path}: cannot be read as CSV (a NUL character in line {row})")
    return text


def _encoding(content: bytes) -> str:
    for mark, name in _MARKS.items():
        if content.startswith(mark):
            return name
    pairs = content[: len(content) // 2 * 2]
    for name, zeros in (("utf-16-le", pairs[1::2]), ("utf-16-be", pairs[::2])):
        if zeros and zeros.count(0) > 0.9 * len(zeros):
            return name
    try:
        content.decode()
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def _records(text: str, path: Path) -> list[tuple[int, list[str]]]:
    """Return the rows that are not empty, each with its number from 1, the head first."""
    marker, _, rest = text.partition("\n")
    if marker.strip().lower() in {f"sep={mark}" for mark in _SEPARATORS}:  # as Excel writes it
        text = rest
    try:
        separator = max(_SEPARATORS, key=lambda mark: len(_head(text, mark)))
        reader = csv.reader(
            io.StringIO(text, newline=""),
            delimiter=separator,
            skipinitialspace=True,
            strict=True,
        )
        records = [(n, [cell.strip() for cell in row]) for n, row in enumerate(reader, 1)]
    except csv.Error as error:
        raise DataError(f"{path}: cannot be read as CSV ({error})") from None
    records = [(number, row) for number, row in records if any(row)]
    if not records:
        raise DataError(f"{path}: cannot be read as CSV (it is empty)")
    return records


def _head(text: str, separator: str) -> list[str]:
    """Return the first row that is not empty as it is with this separator."""
    lines = io.StringIO(text, newline="")
    for row in csv.reader(lines, delimiter=separator, skipinitialspace=True):
        if any(cell.strip() for cell in row):
            return row
    return []
