"""The whole Kermany set of paediatric chest X-rays (Kermany et al., Cell 172:1122, 2018)."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from fl_sim.data.errors import DataError
from fl_sim.data.images import check_size, decode, stack
from fl_sim.data.source import Part, Request, Source, reads
from fl_sim.data.tables import inside, read_table

_COLUMNS = ("path", "split", "label", "patient_id", "duplicate_of")
_PARTS: dict[str, Part] = {"train": "private", "val": "public", "test": "test"}


@reads("path", "max_value", "on_error")
def source(request: Request) -> Source:
    """Return the set from a folder or zip file with ``index.csv`` beside the images.

    ``path`` is the zip file, or a folder with ``images.zip`` or the unpacked images. The index
    has the columns path, split (train, val, test), label (0 normal, 1 pneumonia), patient_id
    and duplicate_of; images that are duplicates of another are left out.

    Raises
    ------
    DataError
        If the index or an image in it cannot be had.
    """
    path = request.existing_path()
    folder = path if path.is_dir() else path.parent
    archive = path / "images.zip" if path.is_dir() else path
    index = folder / "index.csv"
    if not index.is_file():
        raise DataError(f"data.path = '{request.path}': there is no index.csv in {folder}")
    table = read_table(index, _COLUMNS)
    table = table[table["duplicate_of"] == ""]
    for column, allowed in (("split", tuple(_PARTS)), ("label", ("0", "1"))):
        wrong = table.loc[~table[column].isin(allowed), column]
        if len(wrong):
            raise DataError(
                f"{index}: {column} '{wrong.iloc[0]}' in row {wrong.index[0] + 2}; allowed are"
                f" {', '.join(allowed)}"
            )
    names = tuple(table["path"])
    read_from = partial(_from_zip, archive) if archive.is_file() else partial(_from_folder, index)

    return Source(
        name="kermany",
        labels=torch.from_numpy(table["label"].to_numpy().astype(np.int64)),
        patients=tuple(table["patient_id"].where(table["patient_id"] != "", table["path"])),
        names=names,
        label_names=("normal", "pneumonia"),
        parts=tuple(_PARTS[split] for split in table["split"]),
        read=lambda indices: stack(
            read_from([names[i] for i in indices]),
            request.image_size,
            request.channels,
            "kermany",
        ),
        attribution=(
            "Kermany, Zhang and Goldbaum, Labeled Optical Coherence Tomography (OCT) and Chest"
            " X-Ray Images for Classification, Mendeley Data rscbjbr9sj (2018), CC BY 4.0"
        ),
    )


def _from_zip(archive: Path, names: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    try:
        with zipfile.ZipFile(archive) as file:
            for name in names:
                check_size(file.getinfo(name).file_size, f"{archive}: {name}")
                yield name, decode(file.read(name), f"{archive}: {name}")
    except KeyError:
        raise DataError(f"{archive}: has no image '{name}', which index.csv lists") from None
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{archive}: cannot be read as a zip file ({error})") from None


def _from_folder(index: Path, names: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    for name in names:
        path = inside(index.parent, name, index)
        yield name, decode(path.read_bytes(), str(path))
