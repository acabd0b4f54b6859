"""A user's own X-rays: labelled sub-folders, or a CSV file that lists them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from fl_sim.data import dicom
from fl_sim.data.errors import DataError
from fl_sim.data.images import decode, stack
from fl_sim.data.source import Part, Request, Source
from fl_sim.data.tables import inside, read_table

SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")

_PARTS: dict[str, Part] = {
    "": "private",
    "private": "private",
    "train": "private",
    "public": "public",
    "test": "test",
}


def source(request: Request) -> Source:
    """Return the images of a folder or CSV file.

    Folder: each sub-folder is a label and holds images, at any depth; files that do not end in
    one of :data:`SUFFIXES` are passed over.

    CSV: column ``path``, from the CSV file's folder and not out of it; either a column ``label``
    or one 0/1 column a label (multi-label); optionally ``patient_id``, and ``split`` with
    private (or train), public or test.

    Who is in an image is told by ``patient_id``, else by a DICOM file itself; any other image
    counts as a patient of its own.

    Raises
    ------
    DataError
        If there are no labels, or a file or row cannot be used.
    """
    path = request.existing_path()
    if path.is_dir():
        return _from_folder(path, request)
    if path.suffix.lower() == ".csv":
        return _from_csv(path, request)
    raise DataError(f"data.path = '{request.path}': allowed are a folder or a .csv file")


def _from_folder(folder: Path, request: Request) -> Source:
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
    numbers, label_names = _classes(labels, str(folder))
    return _source(
        request,
        name=folder.resolve().name,
        files=files,
        names=[file.relative_to(folder).as_posix() for file in files],
        labels=numbers,
        label_names=label_names,
    )


def _from_csv(path: Path, request: Request) -> Source:
    table = read_table(path, ["path"])
    repeated = table.loc[table["path"].duplicated(), "path"]
    if len(repeated):
        raise DataError(f"{path}: path '{repeated.iloc[0]}' is listed twice")
    labels, label_names = _csv_labels(table, path)
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
        files=[inside(path.parent, name, path) for name in table["path"]],
        names=list(table["path"]),
        labels=labels,
        label_names=label_names,
        patients=list(table["patient_id"]) if "patient_id" in table else None,
        parts=parts,
    )


def _csv_labels(table: pd.DataFrame, path: Path) -> tuple[Tensor, tuple[str, ...]]:
    if "label" in table:
        empty = table.index[table["label"] == ""]
        if len(empty):
            raise DataError(f"{path}: row {empty[0] + 2} has no label")
        return _classes(list(table["label"]), str(path))
    columns = [c for c in table.columns if c not in {"path", "patient_id", "split"}]
    if not columns:
        raise DataError(
            f"{path}: no labels; allowed are a column 'label' or one column of 0 and 1 a label"
        )
    for column in columns:
        wrong = table.loc[~table[column].isin(["0", "1"]), column]
        if len(wrong):
            raise DataError(
                f"{path}: column '{column}' holds '{wrong.iloc[0]}' in row {wrong.index[0] + 2};"
                " without a column 'label', every column but path, patient_id and split is a"
                " label of 0 and 1"
            )
    return torch.from_numpy(table[columns].to_numpy().astype(np.float32)), tuple(columns)


def _classes(values: Sequence[str], where: str) -> tuple[Tensor, tuple[str, ...]]:
    """Give the distinct labels numbers in sorted order, whole numbers by value."""
    distinct = sorted(set(values))
    if all(value.isdecimal() for value in distinct):
        distinct.sort(key=int)
    if len(distinct) < 2:
        raise DataError(f"{where}: the only label is '{distinct[0]}'; at least 2 are needed")
    numbers = {value: number for number, value in enumerate(distinct)}
    return torch.tensor([numbers[value] for value in values]), tuple(distinct)


def _source(
    request: Request,
    *,
    name: str,
    files: Sequence[Path],
    names: Sequence[str],
    labels: Tensor,
    label_names: tuple[str, ...],
    patients: Sequence[str] | None = None,
    parts: Sequence[Part] = (),
) -> Source:
    def pictures(indices: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        for i in indices:
            yield names[i], decode(_content(files[i]), str(files[i]))

    known = patients or [""] * len(files)
    return Source(
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
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
