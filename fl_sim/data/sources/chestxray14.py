"""The official split of ChestX-ray14 (Wang et al., CVPR 2017), by patient, in lists of its own.

``train_val_list.txt`` and ``test_list.txt`` lie beside ``Data_Entry_2017.csv``, a file name a line.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fl_sim.data.errors import DataError
from fl_sim.data.files.columns import key
from fl_sim.data.files.listed import normalised
from fl_sim.data.files.tree import read_file
from fl_sim.data.sources.base import DatasetRequest

if TYPE_CHECKING:
    import pandas as pd

LISTS = {"train_val_list.txt": "train", "test_list.txt": "test"}
"""The split of what a list names; where one is missing, it has the rest."""


def with_splits(
    table: pd.DataFrame, path: Path, request: DatasetRequest
) -> tuple[pd.DataFrame, str]:
    """Return the set's table with a column of splits, and a remark on it; any other as it is.

    Raises
    ------
    DataError
        If both lists name an image, or neither does.
    """
    columns = {key(column): column for column in table.columns}
    there = [name for name in LISTS if (path.parent / name).is_file()]
    if not there or not {"imageindex", "findinglabels"} <= columns.keys() or "split" in columns:
        return table, ""
    split_of: dict[str, str] = {}
    for name in there:
        for image in _lines(path.parent / name):
            if split_of.setdefault(image, LISTS[name]) != LISTS[name]:
                raise DataError(f"{path.parent / name}: '{image}' is in {there[0]} too")
    found = table[columns["imageindex"]].map(normalised).map(split_of)
    unlisted = found.index[found.isna()]
    if len(unlisted) and len(there) == len(LISTS):
        row, lists = unlisted[0], " and ".join(there)
        image = table[columns["imageindex"]][row]
        raise DataError(f"{path}: '{image}' in row {row + 2} is in neither of {lists}")
    (rest,) = {*LISTS.values()} - {LISTS[there[0]]}
    return table.assign(split=found.fillna(rest)), f"splits: from {' and '.join(there)}"


def _lines(file: Path) -> list[str]:
    text = read_file(file).decode("utf-8-sig", errors="replace")
    return [normalised(line.strip()) for line in text.splitlines() if line.strip()]
