"""ChestX-ray14 of the NIH Clinical Center (Wang et al., CVPR 2017) as an npz file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from fl_sim.data.errors import DataError
from fl_sim.data.files.images import stack
from fl_sim.data.files.npz import read_arrays
from fl_sim.data.sources.base import DatasetRequest, DatasetSource, reads

_ARRAYS = ("images", "labels", "label_names", "patient_id")


@reads("path")
def source(request: DatasetRequest) -> DatasetSource:
    """Return chest X-rays with 14 findings each, any number of which may be there.

    The npz file holds images (N, H, W) uint8, labels (N, L) of 0 and 1, label_names (L,) and
    patient_id (N,); optionally filenames (N,). A split that the file has is not used: splits of
    this set are often by image, and share patients.

    Raises
    ------
    DataError
        If the file is not of that kind.
    """
    path = request.existing_path()
    images, labels, label_names, patients = _read(path)
    names = _names(path, len(images))

    return DatasetSource(
        name="nih",
        labels=torch.from_numpy(labels.astype(np.float32)),
        patients=tuple(map(str, patients)),
        names=names,
        label_names=tuple(map(str, label_names)),
        read=lambda indices: stack(
            ((names[i], images[i].astype(np.float32) / 255) for i in indices),
            request.image_size,
            request.channels,
            "nih",
        ),
        attribution=(
            "ChestX-ray14, NIH Clinical Center, Wang et al., CVPR 2017,"
            " https://nihcc.app.box.com/v/ChestXray-NIHCC"
        ),
    )


def _read(path: Path) -> list[np.ndarray]:
    """Return images (N, H, W), labels (N, L), label names (L,) and patients (N,)."""
    try:
        arrays = read_arrays(path, _ARRAYS)
    except KeyError as error:
        raise DataError(f"{path}: {error.args[0]}; needed are {', '.join(_ARRAYS)}") from None
    images, labels, label_names, patients = arrays
    if images.ndim != 3 or images.dtype != np.uint8 or not len(images):
        raise DataError(
            f"{path}: images are {images.shape} {images.dtype}; allowed are (N, H, W) uint8"
        )
    if labels.shape != (len(images), label_names.size) or patients.shape != (len(images),):
        raise DataError(
            f"{path}: {len(images)} images with labels {labels.shape}, {label_names.size}"
            f" label_names and patient_id {patients.shape} do not fit together"
        )
    if not np.isin(labels, (0, 1)).all():
        wrong = labels[~np.isin(labels, (0, 1))][0]
        raise DataError(f"{path}: labels hold {wrong}; allowed are 0 and 1")
    return arrays


def _names(path: Path, count: int) -> tuple[str, ...]:
    try:
        (names,) = read_arrays(path, ["filenames"])
    except KeyError:
        return tuple(f"{i:06d}" for i in range(count))
    if names.shape != (count,):
        raise DataError(f"{path}: filenames are {names.shape}; there are {count} images")
    return tuple(map(str, names))
