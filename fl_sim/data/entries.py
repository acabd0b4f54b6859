"""The labels in a table's cells."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fl_sim.data.errors import DataError
from fl_sim.data.files.columns import findings, key
from fl_sim.data.layout import check_case
from fl_sim.data.sources.base import DatasetRequest

if TYPE_CHECKING:
    import pandas as pd

UNCERTAIN: dict[str, float | None] = {"refuse": None, "zeros": 0.0, "ones": 1.0}
"""What a label of -1 counts as, by name (CheXpert: Irvin et al., AAAI 2019)."""

_NUMBER = re.compile(r"([+-]?)0*(\d+)(?:\.0*)?")
_WORDS = {"true": "1", "false": "0", "yes": "1", "no": "0"}
_NOTHING = "nofinding"

Labels = tuple[Tensor, tuple[str, ...]]


def labels_of(
    table: pd.DataFrame, roles: dict[str, str], path: Path, request: DatasetRequest
) -> tuple[Labels, str]:
    """Return labels (N,) or (N, L) with their names, and in words where they stood.

    Raises
    ------
    DataError
        If there are none, or a cell is none.
    """
    chosen = [c.strip() for c in request.labels.split(",") if c.strip()]
    if missing := [c for c in chosen if c not in table]:
        raise DataError(
            f"data.labels = '{request.labels}': {path} has no column '{missing[0]}'; its columns"
            f" are {', '.join(map(repr, table.columns))}"
        )
    alone = roles.get("label") if not chosen else None
    if len(chosen) == 1 and _names_classes(table[chosen[0]]):
        alone = chosen[0]
    if alone:
        return _of_one_column(table[alone], path), f"labels: column '{alone}'"
    taken = set(roles.values())
    columns = chosen or findings(table) or [c for c in table.columns if c not in taken]
    if not columns:
        raise DataError(
            f"{path}: no labels; allowed are a column 'label' or one column of 0 and 1 a label"
        )
    values = [_entries(table[column], path, request, taken) for column in columns]
    labels = torch.from_numpy(np.stack(values, axis=1)), tuple(columns)
    return labels, f"labels: {len(columns)} columns of 0 and 1"


def classes(values: Sequence[str], where: str) -> Labels:
    """Give the distinct labels numbers in sorted order, whole numbers by value.

    Labels that are all numbers are compared as such: ``1`` and ``1.0`` are one.
    """
    distinct = sorted(set(values))
    if all(_NUMBER.fullmatch(value) for value in distinct):
        values = [number(value) for value in values]
        distinct = sorted(set(values), key=int)
    check_case(distinct, where)
    numbers = {value: number for number, value in enumerate(distinct)}
    return torch.tensor([numbers[value] for value in values]), tuple(distinct)


def number(text: str) -> str:
    """Return a whole number as it is usually written; any other text as it is."""
    found = _NUMBER.fullmatch(text)
    if not found:
        return text
    return found[2] if found[1] != "-" or not int(found[2]) else f"-{found[2]}"


def _of_one_column(column: pd.Series[str], path: Path) -> Labels:
    empty = column.index[column.str.lower().isin(["", "nan"])]
    if len(empty):
        raise DataError(f"{path}: row {empty[0] + 2} has no label")
    if key(str(column.name)) == "findinglabels" or column.str.contains("|", regex=False).any():
        return _several(list(column))
    return classes(list(column), str(path))


def _several(cells: Sequence[str]) -> Labels:
    """Return labels (N, L) of cells like ``Effusion|Mass``, as in ChestX-ray14."""
    rows = [[part.strip() for part in cell.split("|") if part.strip()] for cell in cells]
    found = {label for row in rows for label in row}
    names = sorted(name for name in found if key(name) != _NOTHING)
    number_of = {name: column for column, name in enumerate(names)}
    labels = torch.zeros(len(rows), len(names))
    for row, given in enumerate(rows):
        labels[row, [number_of[name] for name in given if name in number_of]] = 1
    return labels, tuple(names)


def _names_classes(column: pd.Series[str]) -> bool:
    """Whether a column holds anything but 0, 1, and what is uncertain."""
    meant = {"0", "1", "-1", "", "nan", *_WORDS}
    return not set(column.str.lower().map(number)) <= meant


def _entries(
    column: pd.Series[str], path: Path, request: DatasetRequest, taken: set[str]
) -> np.ndarray:
    """Return a label column (N,) as 0 and 1, float32."""
    meant: dict[str, float] = {"0": 0, "1": 1}
    unsure = ["", "-1"]
    counts_as = UNCERTAIN[request.uncertain]
    if counts_as is not None:
        meant |= {"": 0, "-1": counts_as}
    read = column.str.lower().replace({**_WORDS, "nan": ""}).map(number)
    wrong = column[~read.isin(list(meant))]
    if len(wrong):
        where = f"column '{column.name}' holds '{wrong.iloc[0]}' in row {wrong.index[0] + 2}"
        if read[wrong.index[0]] in unsure:
            raise DataError(
                f"{path}: {where}, which is uncertain; data.uncertain = '{request.uncertain}',"
                " allowed are also zeros and ones"
            )
        raise DataError(
            f"{path}: {where}; a label is 0 or 1, and without a column 'label' every column but"
            f" {', '.join(sorted(taken))} is one, unless data.labels names them"
        )
    return read.map(meant).to_numpy(dtype=np.float32)
