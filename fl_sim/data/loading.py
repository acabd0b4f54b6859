"""One way to load any data set."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection
from functools import lru_cache
from typing import Any

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


def load(name: str, **options: Any) -> Splits:
    """Return the X-rays of a data set; the options are the fields of :class:`DatasetRequest`.

    As :func:`load_request`.
    """
    return load_request(DatasetRequest(name=name, **options))


def load_request(request: DatasetRequest) -> Splits:
    """Return the private, public and test X-rays of a data set.

    Equal requests give the same images. The last few results are kept, so that a process may ask
    again at no cost; treat the tensors as read-only.

    Raises
    ------
    DataError
        On every field or file that cannot be used.
    """
    check_request(request)
    return _load(request)


def check_request(request: DatasetRequest) -> None:
    """Raise :class:`DataError` for a field that cannot be used, or that the data set ignores."""
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
