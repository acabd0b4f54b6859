"""One way to load any data set."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection
from functools import lru_cache

import numpy as np

from adversary.common.plugins import Registry
from fl_sim.data.dataset import Splits
from fl_sim.data.entries import UNCERTAIN
from fl_sim.data.errors import DataError
from fl_sim.data.identity import PATIENTS
from fl_sim.data.sources import (
    chestmnist,
    embedded,
    folder,
    huggingface,
    kermany,
    nih,
    phantom,
    pneumoniamnist,
    sample,
)
from fl_sim.data.sources.base import UNREAD, DatasetRequest, Maker
from fl_sim.data.splits import readable, split
from fl_sim.data.summary import in_lines, splits_in_words

DATASETS: Registry[Maker] = Registry(
    {
        "chestmnist": chestmnist.source,
        "embedded": embedded.source,
        "folder": folder.source,
        "huggingface": huggingface.source,
        "kermany": kermany.source,
        "nih": nih.source,
        "phantom": phantom.source,
        "pneumoniamnist": pneumoniamnist.source,
        "sample": sample.source,
    },
    group="fl_sim.data",
    fault=lambda name, maker: (
        None if callable(maker) else f"{maker!r} must be callable, from a Request to a Source"
    ),
)
"""The makers of sources."""

ON_ERROR = ("stop", "skip")
IMAGE_SIZES = range(8, 1025)
CHANNELS = (1, 3)


def load(
    name: str,
    *,
    path: str = "",
    image_size: int = 64,
    channels: int = 1,
    num_images: int = 0,
    public: int | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    labels: str = "",
    uncertain: str = "refuse",
    columns: str = "",
    patients: str = "auto",
    max_value: float = 0,
    on_error: str = "stop",
) -> Splits:
    """Return the private, public and test X-rays of a data set.

    The same arguments give the same images. The last few results are kept, so that a process
    may ask again at no cost; treat the tensors as read-only.

    Parameters
    ----------
    name : str
        A key of :data:`DATASETS`.
    path : str
        File or folder of the data; ``embedded``, ``sample`` and ``phantom`` need none, and those
        of MedMNIST are downloaded without one.
    image_size : int
        Side of the square images in pixels, 8 to 1024.
    channels : int
        1 (grey) or 3 (grey repeated; colour kept).
    num_images : int
        At most so many images in the three splits together; 0 for all (``phantom``: 512).
    public : int, optional
        Public images, as nearly as whole patients allow; by default those that the data set
        itself calls public, or four where it calls none so or ``num_images`` are taken.
    test_fraction : float
        Share of the images held out for testing, in [0, 1). A test split of the data set's own
        is used instead, whole unless ``num_images`` is given; 0 means no test images at all.
        ``embedded`` is too small to hold out any.
    seed : int
        Decides which patients are drawn, and what a phantom looks like.
    labels : str
        Label columns of a ``folder``'s CSV file, comma-separated; empty for all.
    uncertain : str
        One of :data:`fl_sim.data.entries.UNCERTAIN`: what uncertain labels of a CSV file count as.
    columns : str
        What columns of a table mean whose names do not tell: ``path = File, patient = Who``; see
        :data:`fl_sim.data.files.columns.ROLES`.
    patients : str
        A key of :data:`fl_sim.data.identity.PATIENTS`: what tells who is in an image.
    max_value : float
        The number that is white in pictures of more bits than they use; 0 is the format's own.
    on_error : str
        One of :data:`ON_ERROR`: whether a file that cannot be read ends it, or is left out.

    Raises
    ------
    DataError
        On every argument or file that cannot be used.
    """
    request = DatasetRequest(
        name=name,
        path=path,
        image_size=image_size,
        channels=channels,
        num_images=num_images,
        public=public,
        test_fraction=test_fraction,
        seed=seed,
        labels=labels,
        uncertain=uncertain,
        columns=columns,
        patients=patients,
        max_value=max_value,
        on_error=on_error,
    )
    return load_request(request)


def load_request(request: DatasetRequest) -> Splits:
    """Return the same for arguments that stand together; see :func:`load`."""
    _check(request)
    return _load(request)


def _check(request: DatasetRequest) -> None:
    if request.name not in DATASETS:
        raise DataError(f"data.name = '{request.name}': allowed are {', '.join(DATASETS)}")
    if request.image_size not in IMAGE_SIZES:
        raise DataError(
            f"data.image-size = {request.image_size}: allowed are whole numbers from"
            f" {IMAGE_SIZES[0]} to {IMAGE_SIZES[-1]} (pixels)"
        )
    if request.channels not in CHANNELS:
        raise DataError(f"data.channels = {request.channels}: allowed are 1 (grey) and 3")
    if request.num_images < 0:
        raise DataError(
            f"data.num-images = {request.num_images}: allowed are 0 (all) and whole numbers above"
        )
    if request.public is not None and request.public < 0:
        raise DataError(f"data.public = {request.public}: allowed are whole numbers from 0")
    if not (math.isfinite(request.test_fraction) and 0 <= request.test_fraction < 1):
        raise DataError(
            f"data.test-fraction = {request.test_fraction}: allowed are numbers from 0 to below 1"
        )
    choices: dict[str, Collection[str]] = {
        "uncertain": UNCERTAIN,
        "patients": PATIENTS,
        "on_error": ON_ERROR,
    }
    for name, allowed in choices.items():
        if (value := getattr(request, name)) not in allowed:
            raise DataError(f"{_setting(name)} = '{value}': allowed are {', '.join(allowed)}")
    if not (math.isfinite(request.max_value) and request.max_value >= 0):
        raise DataError(
            f"data.max-value = {request.max_value}: allowed are 0 (the format's) and numbers above"
        )
    read = getattr(DATASETS[request.name], "reads", UNREAD)
    for field in dataclasses.fields(request):
        value = getattr(request, field.name)
        if field.name in UNREAD and field.name not in read and value not in (field.default, ""):
            raise DataError(
                f"{_setting(field.name)} = {value!r}: the data set '{request.name}'"
                f" {UNREAD[field.name]}"
            )


def _setting(field: str) -> str:
    return f"data.{field.replace('_', '-')}"


@lru_cache(maxsize=4)
def _load(request: DatasetRequest) -> Splits:
    source = DATASETS[request.name](request)
    if len(source.label_names) < 2 and source.labels.ndim == 1:
        raise DataError(
            f"{request.path}: the only label is '{source.label_names[0]}'; at least 2 are needed"
        )
    parts = split(source, request)
    notes = source.notes
    if request.on_error == "skip":
        parts, skipped = readable(source, parts)
        notes = (*notes, *skipped)
    # One read for all three, so that a warning about the files is given once.
    order = np.concatenate(list(parts.values()))
    lines = (*in_lines(source, notes), splits_in_words(source, parts))
    chosen = dataclasses.replace(source.take(order), notes=lines)
    ends = np.cumsum([len(indices) for indices in parts.values()])
    pieces = np.split(np.arange(len(order)), ends[:-1])
    return Splits(**{part: chosen.subset(p) for part, p in zip(parts, pieces, strict=True)})
