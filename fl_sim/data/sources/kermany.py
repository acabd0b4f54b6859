"""The whole Kermany set of paediatric chest X-rays (Kermany et al., Cell 172:1122, 2018)."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
import torch

from fl_sim.data.errors import DataError
from fl_sim.data.files.tables import inside, read_table
from fl_sim.data.files.tree import FolderTree, Tree, ZipTree, passed_over, pictures_of, read_file
from fl_sim.data.identity import kermany_patient
from fl_sim.data.layout import arrange
from fl_sim.data.sources.base import DatasetRequest, DatasetSource, Part, reads
from fl_sim.data.sources.folder import Catalogue, as_source

ATTRIBUTION = (
    "Kermany, Zhang and Goldbaum, Labeled Optical Coherence Tomography (OCT) and Chest"
    " X-Ray Images for Classification, Mendeley Data rscbjbr9sj (2018), CC BY 4.0"
)

_COLUMNS = ("path", "split", "label", "patient_id", "duplicate_of")
_PARTS: dict[str, Part] = {"train": "private", "val": "public", "test": "test"}
_LABELS = ("normal", "pneumonia")
_OCT = "OCT"  # the other half of Mendeley's archive


@reads("path", "max_value", "on_error")
def source(request: DatasetRequest) -> DatasetSource:
    """Return the set as it is published, or with an ``index.csv`` beside the images.

    ``path`` is Mendeley's or Kaggle's zip file, or a folder with its contents: train, test and
    maybe val above NORMAL and PNEUMONIA, at any depth. Patients are in the file names; those of
    the test images are others than those of the same number among the train images.

    With an index, ``path`` is the zip file, or a folder with ``images.zip`` or the unpacked
    images. It has the columns path, split (train, val, test), label (0 normal, 1 pneumonia),
    patient_id and duplicate_of; images that are duplicates of another are left out.

    Raises
    ------
    DataError
        If the set or an image in it cannot be had.
    """
    path = request.existing_path()
    folder = path if path.is_dir() else path.parent
    archive = path / "images.zip" if path.is_dir() else path
    index = folder / "index.csv"
    if index.is_file():
        found = _from_index(index, archive)
    else:
        found = _as_published(ZipTree(path) if path.is_file() else FolderTree(path), path)
    return replace(as_source(found, request, name="kermany"), attribution=ATTRIBUTION)


def _from_index(index: Path, archive: Path) -> Catalogue:
    table = read_table(index, _COLUMNS)
    table = table[table["duplicate_of"] == ""]
    for column, allowed in (("split", tuple(_PARTS)), ("label", ("0", "1"))):
        wrong = table.loc[~table[column].isin(allowed), column]
        if len(wrong):
            raise DataError(
                f"{index}: {column} '{wrong.iloc[0]}' in row {wrong.index[0] + 2}; allowed are"
                f" {', '.join(allowed)}"
            )
    names = list(table["path"])
    files = _Archived(ZipTree(archive), archive) if archive.is_file() else _Unpacked(index)
    return Catalogue(
        names=names,
        labels=torch.from_numpy(table["label"].to_numpy().astype(np.int64)),
        label_names=_LABELS,
        patients=list(table["patient_id"].where(table["patient_id"] != "", table["path"])),
        parts=[_PARTS[split] for split in table["split"]],
        files=files,
        told_by="the index",
    )


def _as_published(tree: Tree, path: Path) -> Catalogue:
    """Return the catalogue of the published folders, each picture once."""
    images, others = pictures_of(tree)
    chest = [name for name in images if _OCT not in PurePosixPath(name).parts[:-1]]
    if not chest:
        raise DataError(f"data.path = '{path}': there is no index.csv in it, and no image")
    layout = arrange(tree, chest, str(path))
    wrong = {place.label for place in layout.places.values()} - {"NORMAL", "PNEUMONIA"}
    if wrong or not layout.has_splits:
        raise DataError(
            f"data.path = '{path}': there is no index.csv in it, and no folders train and test with"
            f" NORMAL and PNEUMONIA{f', but {min(wrong)}' if wrong else ''}"
        )
    names = _once_each(tree, list(layout.places))
    places = [layout.places[name] for name in names]
    told = [
        f"passed over: {len(layout.places) - len(names)} images that are copies of another"
        if len(names) < len(layout.places)
        else "",
        f"passed over: {len(images) - len(chest)} images of {_OCT}" if chest != images else "",
        layout.remark,
        passed_over(others, tree.left_out),
    ]
    return Catalogue(
        names=names,
        labels=torch.tensor([int(place.label == "PNEUMONIA") for place in places]),
        label_names=_LABELS,
        patients=[
            kermany_patient(PurePosixPath(name).name, place.part)
            for name, place in zip(names, places, strict=True)
        ],
        parts=[place.part or "private" for place in places],
        files=tree,
        notes=[note for note in told if note],
        told_by="names of files",
    )


def _once_each(tree: Tree, names: list[str]) -> list[str]:
    """Return the names of pictures that differ, the first of each in the order of names."""
    sizes: dict[int, list[str]] = {}
    for name in names:
        sizes.setdefault(tree.size(name), []).append(name)
    copies = set()
    for alike in sizes.values():
        seen: set[str] = set()
        for name in alike if len(alike) > 1 else ():
            digest = tree.digest(name)
            copies |= {name} if digest in seen else set()
            seen.add(digest)
    return [name for name in names if name not in copies]


@dataclass(frozen=True)
class _Archived:
    """Images of an archive that an index lists."""

    tree: Tree
    archive: Path

    def where(self, name: str) -> str:
        return self.tree.where(name)

    def open(self, name: str) -> BinaryIO:
        return io.BytesIO(self.read(name))

    def read(self, name: str) -> bytes:
        if name not in self.tree.names:
            raise DataError(f"{self.archive}: has no image '{name}', which index.csv lists")
        return self.tree.read(name)


@dataclass(frozen=True)
class _Unpacked:
    """Images beside the index that lists them."""

    index: Path

    def where(self, name: str) -> str:
        return str(self.index.parent / name)

    def open(self, name: str) -> BinaryIO:
        return io.BytesIO(self.read(name))

    def read(self, name: str) -> bytes:
        return read_file(inside(self.index.parent, name, self.index))
