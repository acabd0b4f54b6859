"""Image sets of the Hugging Face hub, or saved by its library, through flwr-datasets."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import torch
from torch import Tensor

from fl_sim.data.entries import classes, labels_of
from fl_sim.data.errors import DataError
from fl_sim.data.files.columns import roles
from fl_sim.data.identity import cleaned
from fl_sim.data.layout import SPLITS
from fl_sim.data.sources.base import DatasetRequest, DatasetSource, Part, reads
from fl_sim.data.sources.folder import Catalogue, as_source

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Rows:
    """The encoded images of a data set's splits, by names like ``train-000007``."""

    splits: Mapping[str, Any]
    column: str
    where_from: str

    def where(self, name: str) -> str:
        """Return an image as messages name it."""
        return f"{self.where_from}: {name}"

    def open(self, name: str) -> BinaryIO:
        """Open the file of an image."""
        return io.BytesIO(self.read(name))

    def read(self, name: str) -> bytes:
        """Return the file of an image; :class:`DataError` where a row has none."""
        split, _, row = name.rpartition("-")
        entry = self.splits[split][int(row)][self.column]
        content = entry and (entry["bytes"] or Path(entry["path"]).read_bytes())
        if not content:
            raise DataError(f"{self.where(name)}: has no image")
        return bytes(content)


@reads("path", "labels", "uncertain", "columns", "max_value", "on_error")
def source(request: DatasetRequest) -> DatasetSource:
    """Return the images of a set on the hub (``owner/name``) or of a folder that it was saved to.

    The column of images is told by its type, that of labels by its type or its name, and that of
    patients by its name; ``data.columns`` tells others (``path`` is the images'). Splits called
    as usual are kept. Needs the extra ``huggingface``.

    Raises
    ------
    DataError
        If the set cannot be had, or has no images or labels.
    """
    splits = _splits(request)
    first = next(iter(splits.values()))
    column = _image_column(first.features, request)
    table, parts, names = _table(splits, column)
    where = Path(request.path)
    told = ", ".join(p for p in request.columns.split(",") if not p.strip().startswith("path"))
    found = roles(table, told, where)
    found.pop("path", None)
    labels, label_names = _labels(table, first.features, found, where, request)
    whose = found.get("patient_id")
    catalogue = Catalogue(
        names=names,
        labels=labels,
        label_names=label_names,
        patients=[cleaned(who) for who in table[whose]] if whose else [""] * len(names),
        parts=parts if len(splits) > 1 else [],
        files=Rows(_encoded(splits, column), column, request.path),
        notes=[f"columns: images '{column}', " + ", ".join(f"{r} '{c}'" for r, c in found.items())],
        told_by=f"column '{whose}'",
    )
    return as_source(catalogue, request, name=where.name)


def _splits(request: DatasetRequest) -> dict[str, Any]:
    """Return the splits of a set by their names."""
    try:
        import datasets
        from flwr_datasets import FederatedDataset
    except ImportError:
        raise DataError(
            "data.name = 'huggingface': needs flwr-datasets; pip install 'fl-sim[huggingface]'"
        ) from None
    if not request.path:
        raise DataError("data.path = '': names a set of the hub (owner/name), or a folder of one")
    try:
        if Path(request.path).is_dir():
            loaded = datasets.load_from_disk(request.path)
            found = dict(loaded) if isinstance(loaded, datasets.DatasetDict) else {"train": loaded}
        else:
            names = datasets.get_dataset_split_names(request.path)
            hub = FederatedDataset(dataset=request.path, partitioners={})
            found = {name: hub.load_split(name) for name in names}
    # Its loaders raise whatever the hub, the network or a file makes them.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"data.path = '{request.path}': cannot be loaded ({reason})") from None
    unknown = [name for name in found if name.lower() not in SPLITS]
    if unknown and len(found) > 1:
        raise DataError(
            f"data.path = '{request.path}': has a split '{unknown[0]}'; allowed are"
            f" {', '.join(SPLITS)}"
        )
    return found


def _image_column(features: Mapping[str, Any], request: DatasetRequest) -> str:
    pairs = [pair.partition("=") for pair in request.columns.split(",")]
    told = [column.strip() for role, _, column in pairs if role.strip() == "path"]
    images = told or [name for name, kind in features.items() if type(kind).__name__ == "Image"]
    if len(images) != 1 or images[0] not in features:
        raise DataError(
            f"data.path = '{request.path}': has {len(images)} columns of images among"
            f" {', '.join(features)}; data.columns = 'path = NAME' tells one"
        )
    return images[0]


def _table(splits: Mapping[str, Any], column: str) -> tuple[pd.DataFrame, list[Part], list[str]]:
    """Return all columns but the images as text, and each row's part and name."""
    import pandas as pd  # slow to import

    tables, parts, names = [], [], []
    for split, rows in splits.items():
        other = rows.remove_columns([c for c in rows.column_names if c == column])
        text = {
            name: ["" if value is None else str(value).strip() for value in other[name]]
            for name in other.column_names
        }
        tables.append(pd.DataFrame(text, index=range(len(rows)), dtype=str))
        parts += [SPLITS.get(split.lower(), "private")] * len(rows)
        names += [f"{split}-{row:06d}" for row in range(len(rows))]
    return pd.concat(tables, ignore_index=True), parts, names


def _labels(
    table: pd.DataFrame,
    features: Mapping[str, Any],
    found: dict[str, str],
    where: Path,
    request: DatasetRequest,
) -> tuple[Tensor, tuple[str, ...]]:
    """Return the labels by the type of their column, else as those of any table."""
    kinds = {name: kind for name, kind in features.items() if type(kind).__name__ == "ClassLabel"}
    typed = [name for name in kinds if name == request.labels] or list(kinds)
    if (
        len(typed) == 1
        and request.labels in {"", typed[0]}
        and found.get("label") in {None, *typed}
    ):
        found["label"] = typed[0]
        names = kinds[typed[0]].names
        if any(not value.isdecimal() or int(value) >= len(names) for value in table[typed[0]]):
            raise DataError(f"{where}: column '{typed[0]}' has rows without a label")
        return torch.tensor([int(value) for value in table[typed[0]]]), tuple(names)
    if "label" in found and not request.labels:
        empty = table.index[table[found["label"]] == ""]
        if len(empty):
            raise DataError(f"{where}: row {empty[0]} has no label")
        return classes(list(table[found["label"]]), str(where))
    (labels, names_), _ = labels_of(table, found, where, request)
    return labels, names_


def _encoded(splits: Mapping[str, Any], column: str) -> dict[str, Any]:
    """Return the splits with their images as files, so that they are read as all others are."""
    import datasets

    plain = datasets.Image(decode=False)
    return {name: rows.cast_column(column, plain) for name, rows in splits.items()}
