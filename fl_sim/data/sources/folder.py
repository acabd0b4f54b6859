"""A user's own X-rays: labelled sub-folders, or a CSV file that lists them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from fl_sim.data.errors import DataError
from fl_sim.data.files import dicom
from fl_sim.data.files.images import check_size, decode, stack
from fl_sim.data.files.tables import inside, read_table, require_columns
from fl_sim.data.sources.base import DatasetRequest, DatasetSource, Part

SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")

_PARTS: dict[str, Part] = {
    "": "private",
    "private": "private",
    "train": "private",
    "public": "public",
    "test": "test",
}


UNCERTAIN: dict[str, float | None] = {"refuse": None, "zeros": 0.0, "ones": 1.0}
"""What a label of -1 counts as, by name (CheXpert: Irvin et al., AAAI 2019)."""

_NOT_LABELS = {"path", "patient_id", "split"}
_PATIENT_FOLDER = re.compile(r"patient_?\d+", re.IGNORECASE)


def source(request: DatasetRequest) -> DatasetSource:
    """Return the images of a folder or CSV file.

    Folder: each sub-folder is a label and holds images, at any depth; files that do not end in
    one of :data:`SUFFIXES` are passed over.

    CSV: column ``path``, from the CSV file's folder (whose own name may come first, as in
    CheXpert) and not out of it; either a column ``label`` or one 0/1 column a label
    (multi-label); optionally ``patient_id``, and ``split`` with private (or train), public or
    test. ``data.labels`` names the label columns where there are others. A label that is
    uncertain (-1), or not mentioned (an empty cell), is refused unless ``data.uncertain`` says
    what -1 counts as; what is not mentioned then counts as absent.

    Who is in an image is told by ``patient_id``, else by a folder ``patient00001`` in its path,
    else by a DICOM file itself; any other image counts as a patient of its own.

    Raises
    ------
    DataError
        If there are no labels, or a file or row cannot be used.
    """
    path = request.existing_path()
    if path.is_dir():
        if request.labels:
            raise DataError(
                f"data.labels = '{request.labels}': the sub-folders of '{path}' are the labels;"
                " leave it empty"
            )
        return _from_folder(path, request)
    if path.suffix.lower() == ".csv":
        return _from_csv(path, request)
    raise DataError(f"data.path = '{request.path}': allowed are a folder or a .csv file")


def _from_folder(folder: Path, request: DatasetRequest) -> DatasetSource:
    files = [
        file
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
    ]
    if not files:
        raise DataError(
            f"data.path = '{folder}': no images; allowed are files that end in"
            f" {', '.join(SUFFIXES)}"
        )
    labels = [file.relative_to(folder).parts[0] for file in files]
    unlabelled = [file for file in files if file.parent == folder]
    if unlabelled:
        raise DataError(
            f"{unlabelled[0]}: has no label; each image belongs into a sub-folder named by its"
            " label, or give a CSV file"
        )
    numbers, label_names = _classes(labels)
    return _source(
        request,
        name=folder.resolve().name,
        files=files,
        names=[file.relative_to(folder).as_posix() for file in files],
        labels=numbers,
        label_names=label_names,
    )


def _from_csv(path: Path, request: DatasetRequest) -> DatasetSource:
    table = read_table(path, [])
    table = table.rename(columns={"Path": "path"} if "path" not in table else {})
    require_columns(table, ["path"], path)
    repeated = table.loc[table["path"].duplicated(), "path"]
    if len(repeated):
        raise DataError(f"{path}: path '{repeated.iloc[0]}' is listed twice")
    labels, label_names = _csv_labels(table, path, request)
    parts: list[Part] = []
    if "split" in table:
        wrong = table.loc[~table["split"].isin(list(_PARTS)), "split"]
        if len(wrong):
            raise DataError(
                f"{path}: split '{wrong.iloc[0]}' in row {wrong.index[0] + 2}; allowed are"
                f" {', '.join(filter(None, _PARTS))}"
            )
        parts = [_PARTS[split] for split in table["split"]]
    return _source(
        request,
        name=path.stem,
        files=[_listed(name, path) for name in table["path"]],
        names=list(table["path"]),
        labels=labels,
        label_names=label_names,
        patients=list(
            table["patient_id"] if "patient_id" in table else map(_patient, table["path"])
        ),
        parts=parts,
    )


def _listed(name: str, table: Path) -> Path:
    """Return the file of a path that starts in the table's folder, or with that folder's name."""
    folder = table.resolve().parent
    below = name.removeprefix(f"{folder.name}/")
    return inside(folder, below if (folder / below).is_file() else name, table)


def _patient(name: str) -> str:
    """Return the first folder of a path that names a patient, else nothing."""
    return next((part for part in name.split("/") if _PATIENT_FOLDER.fullmatch(part)), "")


def _csv_labels(
    table: pd.DataFrame, path: Path, request: DatasetRequest
) -> tuple[Tensor, tuple[str, ...]]:
    if "label" in table and not request.labels:
        empty = table.index[table["label"] == ""]
        if len(empty):
            raise DataError(f"{path}: row {empty[0] + 2} has no label")
        return _classes(list(table["label"]))
    columns = [c.strip() for c in request.labels.split(",") if c.strip()]
    if missing := [c for c in columns if c not in table]:
        raise DataError(
            f"data.labels = '{request.labels}': {path} has no column '{missing[0]}'; its columns"
            f" are {', '.join(map(repr, table.columns))}"
        )
    columns = columns or [c for c in table.columns if c not in _NOT_LABELS]
    if not columns:
        raise DataError(
            f"{path}: no labels; allowed are a column 'label' or one column of 0 and 1 a label"
        )
    values = [_entries(table[column], path, request) for column in columns]
    return torch.from_numpy(np.stack(values, axis=1)), tuple(columns)


def _entries(column: pd.Series[str], path: Path, request: DatasetRequest) -> np.ndarray:
    """Return a label column (N,) as 0 and 1, float32."""
    meant: dict[str, float] = {"0": 0, "0.0": 0, "1": 1, "1.0": 1}
    unsure = ["", "-1", "-1.0"]
    counts_as = UNCERTAIN[request.uncertain]
    if counts_as is not None:
        meant |= {"": 0, "-1": counts_as, "-1.0": counts_as}
    wrong = column[~column.isin(list(meant))]
    if len(wrong):
        where = f"column '{column.name}' holds '{wrong.iloc[0]}' in row {wrong.index[0] + 2}"
        if wrong.iloc[0] in unsure:
            raise DataError(
                f"{path}: {where}, which is uncertain; data.uncertain = '{request.uncertain}',"
                " allowed are also zeros and ones"
            )
        raise DataError(
            f"{path}: {where}; a label is 0 or 1, and without a column 'label' every column but"
            f" {', '.join(sorted(_NOT_LABELS))} is one, unless data.labels names them"
        )
    return column.map(meant).to_numpy(dtype=np.float32)


def _classes(values: Sequence[str]) -> tuple[Tensor, tuple[str, ...]]:
    """Give the distinct labels numbers in sorted order, whole numbers by value."""
    distinct = sorted(set(values))
    if all(value.isdecimal() for value in distinct):
        distinct.sort(key=int)
    numbers = {value: number for number, value in enumerate(distinct)}
    return torch.tensor([numbers[value] for value in values]), tuple(distinct)


def _source(
    request: DatasetRequest,
    *,
    name: str,
    files: Sequence[Path],
    names: Sequence[str],
    labels: Tensor,
    label_names: tuple[str, ...],
    patients: Sequence[str] | None = None,
    parts: Sequence[Part] = (),
) -> DatasetSource:
    def pictures(indices: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        for i in indices:
            yield names[i], decode(_content(files[i]), str(files[i]))

    known = patients or [""] * len(files)
    return DatasetSource(
        name=name,
        labels=labels,
        patients=tuple(
            patient or dicom.patient_id(file) or image
            for patient, file, image in zip(known, files, names, strict=True)
        ),
        names=tuple(names),
        label_names=label_names,
        parts=tuple(parts),
        read=lambda i: stack(pictures(i), request.image_size, request.channels, name),
        attribution=f"images of the user: {request.path}",
    )


def _content(path: Path) -> bytes:
    try:
        check_size(path.stat().st_size, str(path))
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
