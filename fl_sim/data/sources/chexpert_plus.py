"""The labels of CheXpert Plus (Chambon et al., 2024), which lie apart from its table.

``df_chexpert_plus_240401.csv`` has an image a row, patients and splits; what the labeller CheXbert
made of each section of the reports is in ``impression_fixed.json``, ``report_fixed.json`` and
``findings_fixed.json``, of ``chexbert_labels.zip``: an object a line, with ``path_to_image`` and 14
labels of 1, 0, -1 and null.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from fl_sim.data.errors import DataError
from fl_sim.data.files.columns import findings, key
from fl_sim.data.files.listed import normalised
from fl_sim.data.files.tables import is_table, read_table
from fl_sim.data.files.tree import ZipTree, read_file
from fl_sim.data.sources.base import DatasetRequest

if TYPE_CHECKING:
    import pandas as pd

SECTIONS = ("impression", "report", "findings")
"""Which section's labels are taken, the first that there is: CheXpert's own are of impressions."""

_IMAGE, _ENDING = "pathtoimage", "_fixed.json"


@dataclass(frozen=True)
class _LabelFile:
    """A file of labels: its name below the table's folder, and what reads it."""

    name: str
    read: Callable[[], pd.DataFrame]

    @property
    def rank(self) -> int:
        """Its place among those that might be taken."""
        section = PurePosixPath(self.name).name.lower().partition("_")[0]
        return SECTIONS.index(section) if section in SECTIONS else len(SECTIONS)


def with_labels(
    table: pd.DataFrame, path: Path, request: DatasetRequest
) -> tuple[pd.DataFrame, str]:
    """Return the set's table with its labels, and a remark on them; any other as it is.

    Raises
    ------
    DataError
        If a file of labels cannot be read, contradicts itself, or there is none.
    """
    columns = {key(column): column for column in table.columns}
    chosen = {key(one) for one in request.labels.split(",")} & columns.keys()
    labelled = chosen or "label" in columns or findings(table)
    if labelled or not {_IMAGE, "deidpatientid"} <= columns.keys():
        return table, ""
    files = sorted(_label_files(path), key=lambda file: file.rank)
    if not files:
        raise DataError(
            f"{path}: has no labels; those of CheXpert Plus lie apart: impression_fixed.json,"
            " report_fixed.json or findings_fixed.json of chexbert_labels.zip is needed beside it"
        )
    labels = _by_image(files[0].read(), f"{path.parent / files[0].name}")
    images = table[columns[_IMAGE]].map(normalised)
    known = images.isin(labels.index)
    if not known.any():
        raise DataError(f"{path}: has no image in common with {path.parent / files[0].name}")
    found = labels.loc[images[known]].set_axis(table.index[known])
    remark = f"labels: from {files[0].name}"
    if others := ", ".join(file.name for file in files[1:]):
        remark += f", not from {others}"
    if left := int((~known).sum()):
        remark += f"; {left} images have none and are left out"
    return table[known].join(found), remark


def _label_files(path: Path) -> Iterator[_LabelFile]:
    """Yield what holds labels beside a table, or in a folder or archive beside it."""
    for file in sorted({*path.parent.glob("*"), *path.parent.glob("*/*_fixed.json")}):
        name = file.relative_to(path.parent).as_posix()
        if file == path or not file.is_file():
            continue
        labels = "label" in file.name.lower()
        if file.name.endswith(_ENDING):
            yield _LabelFile(name, partial(_of_file, file))
        elif labels and is_table(file):
            yield _LabelFile(name, partial(read_table, file, []))
        elif labels and file.suffix.lower() == ".zip":
            tree = ZipTree(file)
            for entry in filter(lambda entry: entry.endswith(_ENDING), tree.names):
                yield _LabelFile(f"{name}/{entry}", partial(_of_archive, tree, entry))


def _of_file(file: Path) -> pd.DataFrame:
    return _records(read_file(file), str(file))


def _of_archive(archive: ZipTree, entry: str) -> pd.DataFrame:
    return _records(archive.read(entry), archive.where(entry))


def _records(content: bytes, where: str) -> pd.DataFrame:
    """Return the objects of a file, one a line, as text; null is an empty cell."""
    import pandas as pd  # slow to import

    rows = []
    for number, line in enumerate(content.splitlines(), 1):
        try:
            row = json.loads(line) if line.strip() else None
        except ValueError:
            row = line
        if row is not None and not isinstance(row, dict):
            raise DataError(f"{where}: line {number} is not a JSON object")
        rows += [row] if row is not None else []
    return pd.DataFrame(rows, dtype=object).fillna("").astype(str)


def _by_image(labels: pd.DataFrame, where: str) -> pd.DataFrame:
    """Return the 14 labels of each image, by its path."""
    columns = {key(column): column for column in labels.columns}
    names = findings(labels)
    if _IMAGE not in columns or not names:
        raise DataError(f"{where}: needs path_to_image and the 14 labels of CheXpert")
    found = labels[names].set_axis(labels[columns[_IMAGE]].map(normalised))
    found = found[~found.reset_index().duplicated().to_numpy()]
    if twice := list(found.index[found.index.duplicated()]):
        raise DataError(f"{where}: '{twice[0]}' is listed twice, with different labels")
    return found
