"""The X-ray sets of MedMNIST v2 (Yang et al., Scientific Data 10:41, 2023) as npz files."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fl_sim.data.errors import DataError
from fl_sim.data.files.images import stack
from fl_sim.data.files.npz import read_arrays
from fl_sim.data.sources.base import DatasetRequest, DatasetSource, Part

# The file's splits, and what each of them is here: the prior is drawn from validation images.
_PARTS: dict[str, Part] = {"train": "private", "val": "public", "test": "test"}

SIZES = (28, 64, 128, 224)
"""Sides in pixels that MedMNIST has its images in."""


@dataclass(frozen=True)
class Kind:
    """One set of MedMNIST.

    Parameters
    ----------
    title : str
        The class of the medmnist package; in small letters, the name of the set and its files.
    label_names : tuple of str
        One a class, or one a finding where ``several``.
    several : bool
        Whether an image has any number of findings.
    base : str
        What it was made from.
    """

    title: str
    label_names: tuple[str, ...]
    several: bool
    base: str

    @property
    def name(self) -> str:
        """The name of the set."""
        return self.title.lower()


def read(request: DatasetRequest, kind: Kind) -> DatasetSource:
    """Return an npz file with MedMNIST's keys, or what the medmnist package downloads.

    The file does not say which images are of one patient, so each counts as its own.

    Raises
    ------
    DataError
        If the file is not of that kind, or the download fails.
    """
    path = request.existing_path() if request.path else _download(request.image_size, kind)
    images, labels, parts, names = [], [], [], []
    for split, part in _PARTS.items():
        split_images, split_labels = _read(path, split, kind)
        images.append(split_images)
        labels.append(split_labels)
        parts += [part] * len(split_images)
        names += [f"{split}-{i:04d}" for i in range(len(split_images))]
    if len({array.shape[1:] for array in images}) != 1:
        raise DataError(f"{path}: train, val and test images differ in size")
    pixels = np.concatenate(images)

    return DatasetSource(
        name=kind.name,
        labels=torch.from_numpy(np.concatenate(labels)),
        patients=tuple(names),
        names=tuple(names),
        label_names=kind.label_names,
        parts=tuple(parts),
        read=lambda indices: stack(
            ((names[i], pixels[i].astype(np.float32) / 255) for i in indices),
            request.image_size,
            request.channels,
            kind.name,
        ),
        attribution=(
            f"{kind.title}, MedMNIST v2, Yang et al., Scientific Data 10:41 (2023), CC BY 4.0;"
            f" from {kind.base}"
        ),
        notes=("patients: not known, each image counts as one",),
    )


def _read(path: Path, split: str, kind: Kind) -> tuple[np.ndarray, np.ndarray]:
    """Return the images (N, H, W) uint8 of one split, and its labels (N,) or (N, L)."""
    try:
        images, labels = read_arrays(path, [f"{split}_images", f"{split}_labels"])
    except KeyError:
        raise DataError(
            f"{path}: has no {split}_images or no {split}_labels; a {kind.title} file has both"
            f" for {', '.join(_PARTS)}"
        ) from None
    each = len(kind.label_names) if kind.several else 1
    if images.ndim != 3 or images.dtype != np.uint8 or labels.size != each * len(images):
        raise DataError(
            f"{path}: {split}_images are {images.shape} {images.dtype} with {labels.size} labels;"
            f" allowed are (N, H, W) uint8 with N{f' x {each}' if each > 1 else ''} labels"
        )
    if not np.isin(labels, (0, 1)).all():
        raise DataError(f"{path}: {split}_labels hold {labels.max()}; allowed are 0 and 1")
    if kind.several:
        return images, labels.reshape(-1, each).astype(np.float32)
    return images, labels.reshape(-1).astype(np.int64)


def _download(image_size: int, kind: Kind) -> Path:
    """Return medmnist's file of the smallest size that need not be enlarged."""
    import medmnist  # slow to import

    size = next((size for size in SIZES if size >= image_size), SIZES[-1])
    folder = Path.home() / ".medmnist"
    path = folder / (f"{kind.name}.npz" if size == 28 else f"{kind.name}_{size}.npz")
    if path.exists():
        return path
    try:
        folder.mkdir(exist_ok=True)
        # In a folder of its own first: clients in other processes never see half a file.
        with tempfile.TemporaryDirectory(dir=folder) as partial:
            getattr(medmnist, kind.title)(split="test", download=True, root=partial, size=size)
            (Path(partial) / path.name).replace(path)
    except (OSError, RuntimeError):
        raise DataError(
            f"data.path = '': {path.name} could not be downloaded to {folder}; download it from"
            " https://medmnist.com and give its path"
        ) from None
    return path
