"""PneumoniaMNIST of MedMNIST v2 (Yang et al., Scientific Data 10:41, 2023)."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from fl_sim.data.errors import DataError
from fl_sim.data.images import stack
from fl_sim.data.npz import read_arrays
from fl_sim.data.source import Part, Request, Source, reads

# The file's splits, and what each of them is here: the prior is drawn from validation images.
_PARTS: dict[str, Part] = {"train": "private", "val": "public", "test": "test"}

_SIZES = (28, 64, 128, 224)


@reads("path")
def source(request: Request) -> Source:
    """Return an npz file with MedMNIST's keys, or what the medmnist package downloads.

    The file does not say which images are of one patient, so each counts as its own.

    Raises
    ------
    DataError
        If the file is not of that kind, or the download fails.
    """
    path = request.existing_path() if request.path else _download(request.image_size)
    images, labels, parts, names = [], [], [], []
    for split, part in _PARTS.items():
        split_images, split_labels = _read(path, split)
        images.append(split_images)
        labels.append(split_labels)
        parts += [part] * len(split_images)
        names += [f"{split}-{i:04d}" for i in range(len(split_images))]
    if len({array.shape[1:] for array in images}) != 1:
        raise DataError(f"{path}: train, val and test images differ in size")
    pixels = np.concatenate(images)

    return Source(
        name="pneumoniamnist",
        labels=torch.from_numpy(np.concatenate(labels)),
        patients=tuple(names),
        names=tuple(names),
        label_names=("normal", "pneumonia"),
        parts=tuple(parts),
        read=lambda indices: stack(
            ((names[i], pixels[i].astype(np.float32) / 255) for i in indices),
            request.image_size,
            request.channels,
            "pneumoniamnist",
        ),
        attribution=(
            "PneumoniaMNIST, MedMNIST v2, Yang et al., Scientific Data 10:41 (2023), CC BY 4.0;"
            " from Kermany et al., Cell 172:1122 (2018)"
        ),
    )


def _read(path: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the images (N, H, W) uint8 and labels (N,) int64 of one split."""
    try:
        images, labels = read_arrays(path, [f"{split}_images", f"{split}_labels"])
    except KeyError:
        raise DataError(
            f"{path}: has no {split}_images or no {split}_labels; a PneumoniaMNIST file has both"
            f" for {', '.join(_PARTS)}"
        ) from None
    if images.ndim != 3 or images.dtype != np.uint8 or labels.size != len(images):
        raise DataError(
            f"{path}: {split}_images are {images.shape} {images.dtype} with {labels.size} labels;"
            " allowed are (N, H, W) uint8 with N labels"
        )
    if not np.isin(labels, (0, 1)).all():
        raise DataError(f"{path}: {split}_labels hold {labels.max()}; allowed are 0 and 1")
    return images, labels.reshape(-1).astype(np.int64)


def _download(image_size: int) -> Path:
    """Return medmnist's file of the smallest size that need not be enlarged."""
    import medmnist  # slow to import

    size = next((size for size in _SIZES if size >= image_size), _SIZES[-1])
    folder = Path.home() / ".medmnist"
    path = folder / ("pneumoniamnist.npz" if size == 28 else f"pneumoniamnist_{size}.npz")
    if path.exists():
        return path
    try:
        folder.mkdir(exist_ok=True)
        # In a folder of its own first: clients in other processes never see half a file.
        with tempfile.TemporaryDirectory(dir=folder) as partial:
            medmnist.PneumoniaMNIST(split="test", download=True, root=partial, size=size)
            (Path(partial) / path.name).replace(path)
    except (OSError, RuntimeError):
        raise DataError(
            f"data.path = '': {path.name} could not be downloaded to {folder}; download it from"
            " https://medmnist.com and give its path"
        ) from None
    return path
