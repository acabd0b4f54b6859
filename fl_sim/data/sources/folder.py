"""A user's own X-rays: labelled sub-folders, or a table that lists them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

import numpy as np
import torch
from torch import Tensor

from fl_sim.data.entries import UNCERTAIN, classes, labels_of
from fl_sim.data.errors import DataError
from fl_sim.data.files import columns, dicom
from fl_sim.data.files.depth import Depth
from fl_sim.data.files.images import decode, stack
from fl_sim.data.files.listed import Listed, normalised
from fl_sim.data.files.tables import is_table, read_table, require_columns
from fl_sim.data.files.tree import (
    SUFFIXES,
    FolderTree,
    Tree,
    ZipTree,
    open_file,
    passed_over,
    pictures_of,
    read_file,
)
from fl_sim.data.identity import PATIENTS, Sighting, cleaned, in_words
from fl_sim.data.layout import SPLITS, Place, arrange
from fl_sim.data.sources import chestxray14, chexpert_plus, mimic
from fl_sim.data.sources.base import UNREAD, DatasetRequest, DatasetSource, Part, reads

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SUFFIXES", "UNCERTAIN", "source"]

COMPANIONS = (mimic.with_images, chestxray14.with_splits, chexpert_plus.with_labels)
"""What joins to a published set's table that which it keeps in files beside it."""


class Files(Protocol):
    """What opens files by the names that a catalogue has."""

    def where(self, name: str) -> str:
        """Return a file as messages name it."""

    def open(self, name: str) -> BinaryIO:
        """Open a file."""

    def read(self, name: str) -> bytes:
        """Return the content of a file."""


@dataclass
class Catalogue:
    """N images before any of them is read.

    Parameters
    ----------
    names : list of str
        Their names in ``files``.
    labels, label_names
        As in :class:`Source`.
    patients : list of str
        Who is in an image, ``""`` where it is not known.
    parts : list of str
        As in :class:`Source`.
    files : Files
        What opens them.
    notes : list of str
        How they were found, in lines.
    told_by : str
        What the patients are known by, in words.
    """

    names: list[str]
    labels: Tensor
    label_names: tuple[str, ...]
    patients: list[str]
    parts: list[Part]
    files: Files
    notes: list[str] = field(default_factory=list)
    told_by: str = "names of folders and files"

    def kept(self, rows: Sequence[int]) -> Catalogue:
        """Return the images of these rows."""
        return replace(
            self,
            names=[self.names[i] for i in rows],
            labels=self.labels[torch.as_tensor(list(rows), dtype=torch.int64)],
            patients=[self.patients[i] for i in rows],
            parts=[self.parts[i] for i in rows] if self.parts else [],
        )


@dataclass(frozen=True)
class _Paths:
    """Files of a table, by the names that it gives them."""

    paths: dict[str, Path]

    def where(self, name: str) -> str:
        return str(self.paths[name])

    def open(self, name: str) -> BinaryIO:
        return open_file(self.paths[name])

    def read(self, name: str) -> bytes:
        return read_file(self.paths[name])


@reads(*UNREAD)
def source(request: DatasetRequest) -> DatasetSource:
    """Return the images of a folder, zip archive or table.

    Folder or archive: each sub-folder is a label and holds images, at any depth; folders named as
    splits (train, val, test) may stand above or directly below. What tools left there is passed
    over, and told; see :mod:`fl_sim.data.layout` and :mod:`fl_sim.data.files.tree`.

    Table: a column of paths, from the table's folder and not out of it; either a column of labels
    or one 0/1 column a label (multi-label); optionally columns of patients, and of splits. Their
    usual names are in :data:`fl_sim.data.files.columns.ROLES`, others are told by ``data.columns``.
    ``data.labels`` names the label columns where there are others. A label that is uncertain
    (-1), or not mentioned (an empty cell), is refused unless ``data.uncertain`` says what -1
    counts as; what is not mentioned then counts as absent.

    Who is in an image is told by the table, else by a folder ``patient00001`` in its path or a
    published way of naming files, else by a DICOM file itself; any other image counts as a
    patient of its own. ``data.patients`` may say otherwise.

    Raises
    ------
    DataError
        If there are no labels, or a file or row cannot be used.
    """
    path = request.existing_path()
    if path.is_dir():
        found = _from_tree(FolderTree(path), path, request)
    elif path.suffix.lower() == ".zip":
        found = _from_tree(ZipTree(path), path, request)
    elif is_table(path):
        found = _from_table(path, request)
    else:
        raise DataError(
            f"data.path = '{request.path}': allowed are a folder or a .csv file (also .tsv, .csv.gz"
            " and .zip)"
        )
    return as_source(found, request, name=path.resolve().name.split(".")[0] or path.name)


def as_source(found: Catalogue, request: DatasetRequest, *, name: str) -> DatasetSource:
    """Return a catalogue as a data set whose images are decoded when they are asked for."""
    found = _with_patients_of_dicom(found, request)
    known, names, files = found.patients, found.names, found.files

    def pictures(indices: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        depth = Depth(request.max_value)
        for i in indices:
            yield names[i], decode(files.read(names[i]), files.where(names[i]), depth)
        depth.tell(name)

    def unreadable(index: int) -> str | None:
        try:
            next(pictures(np.array([index])))
        except DataError as error:
            return str(error)
        return None

    return DatasetSource(
        name=name,
        labels=found.labels,
        patients=tuple(who or image for who, image in zip(known, names, strict=True)),
        names=tuple(names),
        label_names=found.label_names,
        parts=tuple(found.parts),
        read=lambda i: stack(pictures(i), request.image_size, request.channels, name),
        attribution=f"images of the user: {request.path}",
        notes=(*found.notes, in_words(known, found.told_by)),
        unreadable=unreadable,
    )


def _from_tree(tree: Tree, root: Path, request: DatasetRequest) -> Catalogue:
    for setting, value in (("labels", request.labels), ("columns", request.columns)):
        if value:
            raise DataError(
                f"data.{setting} = '{value}': the sub-folders of '{root}' are the labels;"
                " leave it empty"
            )
    if request.uncertain != "refuse":
        raise DataError(
            f"data.uncertain = '{request.uncertain}': labels of folders are never uncertain;"
            " must be refuse"
        )
    images, others = pictures_of(tree)
    if not images:
        raise DataError(
            f"data.path = '{root}': no images; allowed are files that end in {', '.join(SUFFIXES)}"
        )
    layout = arrange(tree, images, str(root))
    names = _once_each(tree, layout.places, str(root))
    places = [layout.places[name] for name in names]
    labels, label_names = classes([place.label for place in places], str(root))
    whose = PATIENTS[request.patients]
    return Catalogue(
        names=names,
        labels=labels,
        label_names=label_names,
        patients=[
            whose(Sighting(name, place.part, place.below))
            for name, place in zip(names, places, strict=True)
        ],
        parts=[place.part or "private" for place in places] if layout.has_splits else [],
        files=tree,
        notes=[note for note in (layout.remark, passed_over(others, tree.left_out)) if note],
    )


def _once_each(tree: Tree, places: dict[str, Place], root: str) -> list[str]:
    """Return names of different files; links may give a file several, below one label alone."""
    first: dict[str, str] = {}
    for name in places:
        other = first.setdefault(tree.same(name), name)
        one, two = places[other], places[name]
        if (one.label, one.part) != (two.label, two.part):
            raise DataError(f"{root}: '{other}' and '{name}' are one file, with two labels")
    return list(first.values())


def _from_table(path: Path, request: DatasetRequest) -> Catalogue:
    table, remarks = read_table(path, []), []
    for completed in COMPANIONS:
        table, remark = completed(table, path, request)
        remarks += [remark] if remark else []
    roles = columns.roles(table, request.columns, path)
    if "path" not in roles:
        require_columns(table, ["path"], path)
    paths = table[roles["path"]].map(normalised)
    if empty := list(paths.index[paths == ""]):
        raise DataError(f"{path}: row {empty[0] + 2} has no path")
    (labels, label_names), labelled = labels_of(table, roles, path, request)
    found = Catalogue(
        names=list(paths),
        labels=labels,
        label_names=label_names,
        patients=_patients_of(table, roles, list(paths), request),
        parts=_parts_of(table, roles, path),
        files=_Paths({}),
        told_by=f"column '{roles['patient_id']}'"
        if "patient_id" in roles and request.patients == "auto"
        else "names of folders and files",
    )
    seen = ", ".join(f"{role} '{column}'" for role, column in roles.items())
    notes = [f"columns: {seen}; {labelled}", *remarks]
    found, told = _with_files(found, path, request)
    found.notes = [*notes, *told]
    return found


def _with_files(
    found: Catalogue, path: Path, request: DatasetRequest
) -> tuple[Catalogue, list[str]]:
    """Return the rows whose files there are, one a file, and what was left out, in lines."""
    listed = Listed(path, found.names)
    first: dict[Path, int] = {}
    paths: dict[str, Path] = {}
    missing: list[str] = []
    for row, name in enumerate(found.names):
        try:
            file = listed.file(name)
        except DataError as error:
            if request.on_error != "skip":
                raise
            missing.append(str(error))
            continue
        other = first.setdefault(file, row)
        if other != row:
            _check_agreement(found, other, row, path)
        paths[name] = file
    notes = [listed.remark] if listed.remark else []
    if missing:
        notes.append(f"skipped: {len(missing)} rows whose files cannot be had; {missing[0]}")
    if not first:
        raise DataError(missing[0])
    if joined := len(found.names) - len(missing) - len(first):
        notes.append(f"joined: {joined} rows that repeat another one's image")
    kept = found.kept(list(first.values()))
    kept.files = _Paths(paths)
    return kept, notes


def _check_agreement(found: Catalogue, one: int, other: int, path: Path) -> None:
    """Raise where two rows of one image say different things of it."""
    same = bool((found.labels[one] == found.labels[other]).all())
    same = same and found.patients[one] == found.patients[other]
    if not same or (found.parts and found.parts[one] != found.parts[other]):
        raise DataError(
            f"{path}: path '{found.names[other]}' is listed twice, with different labels, patients"
            " or splits"
        )


def _patients_of(
    table: pd.DataFrame, roles: dict[str, str], paths: list[str], request: DatasetRequest
) -> list[str]:
    whose = PATIENTS[request.patients]
    guessed = [whose(Sighting(name, None, tuple(name.split("/")[:-1]))) for name in paths]
    if "patient_id" not in roles or request.patients != "auto":
        return guessed
    told = table[roles["patient_id"]].map(cleaned)
    # Where one row names a patient and another leaves it to the folder, both mean the same.
    meant = {guess: who for who, guess in zip(told, guessed, strict=True) if who and guess}
    return [who or meant.get(guess, guess) for who, guess in zip(told, guessed, strict=True)]


def _parts_of(table: pd.DataFrame, roles: dict[str, str], path: Path) -> list[Part]:
    if "split" not in roles:
        return []
    column = table[roles["split"]].str.lower()
    wrong = column[~column.isin(["", *SPLITS])]
    if len(wrong):
        raise DataError(
            f"{path}: split '{wrong.iloc[0]}' in row {wrong.index[0] + 2}; allowed are"
            f" {', '.join(SPLITS)}"
        )
    return [SPLITS.get(split, "private") for split in column]


def _with_patients_of_dicom(found: Catalogue, request: DatasetRequest) -> Catalogue:
    """Return the catalogue with the patients that DICOM files name where nothing else does."""
    patients, kept, failed = list(found.patients), [], []
    by_file = 0
    for row, name in enumerate(found.names):
        try:
            if not patients[row]:
                with found.files.open(name) as file:
                    patients[row] = cleaned(dicom.patient_in(file, found.files.where(name)))
                by_file += bool(patients[row])
        except DataError as error:
            if request.on_error != "skip":
                raise
            failed.append(str(error))
            continue
        kept.append(row)
    told_by = found.told_by
    if by_file:
        alone = by_file == sum(map(bool, patients))
        told_by = "DICOM files" if alone else f"{told_by}, DICOM files"
    if failed:
        found.notes.append(f"skipped: {len(failed)} files that cannot be read; {failed[0]}")
    if not kept:
        raise DataError(failed[0])
    return replace(found, patients=patients, told_by=told_by).kept(kept)
