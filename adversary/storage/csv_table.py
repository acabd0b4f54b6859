"""CSV tables that grow by whole rows and read back exactly what was written."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adversary.common.files import atomic_write

if TYPE_CHECKING:
    import pandas as pd

Schema = Mapping[str, str]
"""Columns in their order, each with its pandas dtype."""

# A spreadsheet takes a cell that begins so for a formula. The apostrophe, which spreadsheets
# read as "text follows", is doubled, so that reading undoes it without doubt.
_FORMULA = re.compile(r"^(?=['=+\-@＝＋－＠])")


def create(path: Path, schema: Schema) -> None:
    """Write a table without rows."""
    with atomic_write(path) as temporary:
        temporary.write_text(",".join(schema) + "\n", encoding="utf-8")


def append(path: Path, schema: Schema, rows: Iterable[Mapping[str, object]]) -> None:
    """Append rows, all or none; columns that a row leaves out, or None, stay empty.

    Raises
    ------
    KeyError
        If a row has a column that the schema has not.
    OSError
        If they cannot be written; the table is then as it was.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        if unknown := row.keys() - schema.keys():
            raise KeyError(f"{path.name} has no column {', '.join(sorted(unknown))}")
        writer.writerow([_cell(row.get(column)) for column in schema])
    _append_bytes(path, text.getvalue().encode("utf-8", "backslashreplace"))


def remove(path: Path, schema: Schema, where: Mapping[str, object]) -> None:
    """Remove the rows whose cells are those of ``where``; the others stay as they are.

    Raises
    ------
    OSError
        If the table cannot be written; it is then as it was.
    """
    columns = list(schema)
    wanted = {columns.index(column): _cell(value) for column, value in where.items()}
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(
            row for row in rows if any(row[index] != cell for index, cell in wanted.items())
        )


def remove_after(path: Path, column: str, last: int) -> None:
    """Remove the rows whose ``column``, an integer, is beyond ``last`` or empty, and half of a row.

    Raises
    ------
    OSError
        If the table cannot be written; it is then as it was.
    """
    whole, _, _ = path.read_bytes().rpartition(b"\n")  # a killed process may leave half of a row
    header, *rows = csv.reader(io.StringIO(whole.decode("utf-8", "backslashreplace"), newline=""))
    place = header.index(column)
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(row for row in rows if row[place] and int(row[place]) <= last)


def sort(path: Path, schema: Schema, by: Sequence[str]) -> None:
    """Bring the rows into the order of these columns, numbers by size, empty cells first.

    Raises
    ------
    OSError
        If the table cannot be written; it is then as it was.
    """
    columns = list(schema)
    places = [(columns.index(name), schema[name] != "string") for name in by]

    def key(row: list[str]) -> list[tuple[float, str]]:
        return [(float(row[i] or -1) if number else 0.0, row[i]) for i, number in places]

    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    ordered = sorted(rows, key=key)
    if ordered == rows:
        return
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(ordered)


def read(path: Path, schema: Schema) -> pd.DataFrame:
    """Return the table with the schema's types; empty cells are missing values.

    Raises
    ------
    OSError, ValueError
        If it cannot be read, or lacks a column.
    """
    import pandas as pd  # slow to import

    texts = [column for column, dtype in schema.items() if dtype == "string"]
    others = [column for column in schema if column not in texts]
    frame = pd.read_csv(
        path,
        dtype=dict(schema),
        # A client may be called "NA"; only in the other columns does text mean "missing".
        keep_default_na=False,
        na_values={column: [""] for column in others},
        encoding="utf-8",
    )
    if missing := [column for column in schema if column not in frame]:
        raise ValueError(f"has no column {', '.join(missing)}")
    for column in texts:
        text = frame[column].str.removeprefix("'")
        frame[column] = text.where(text != "")
    return frame


def _append_bytes(path: Path, data: bytes) -> None:
    with path.open("r+b", buffering=0) as file:
        end = _end_of_whole_rows(file)
        file.seek(end)
        file.truncate()
        try:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(end)
            raise


def _end_of_whole_rows(file: io.FileIO) -> int:
    """Return where whole rows end: a process killed while writing may leave half of one."""
    end = file.seek(0, os.SEEK_END)
    if end == 0 or os.pread(file.fileno(), 1, end - 1) == b"\n":
        return end
    return os.pread(file.fileno(), end, 0).rfind(b"\n") + 1


def _cell(value: object) -> str:
    import pandas as pd  # slow to import

    if value is None or value is pd.NA or value != value:
        return ""
    if isinstance(value, str):
        return _FORMULA.sub("'", re.sub(r"[\x00-\x1f\x7f]", " ", value))
    return repr(float(value)) if isinstance(value, float) else str(value)
