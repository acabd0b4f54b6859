"""720 real X-rays of 64x64 that travel with the code: enough for a model to learn from."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fl_sim.data.errors import DataError
from fl_sim.data.files.images import decode, stack
from fl_sim.data.sources.base import DatasetRequest, DatasetSource, reads

SIDE = 64
"""Pixels a side, as stored."""


@reads()
def source(request: DatasetRequest) -> DatasetSource:
    """Return 400 private, 120 public and 200 test X-rays, half of each with pneumonia.

    One image a patient, of children aged 1 to 5. Written by
    :mod:`fl_sim.data.sources.embed_sample`.

    Raises
    ------
    DataError
        If images larger than the stored ones are asked for.
    """
    if request.image_size > SIDE:
        raise DataError(
            f"data.image-size = {request.image_size}: the X-rays of 'sample' are {SIDE}x{SIDE};"
            f" allowed are up to {SIDE} (data.name = 'embedded' has sixteen of 256x256)"
        )
    content = _content()
    images = content["images"]

    def pictures(indices: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        for i in indices:
            name = images[i]["name"]
            yield name, decode(base64.b64decode(images[i]["jpeg"]), name)

    return DatasetSource(
        name="sample",
        labels=torch.tensor([image["label"] for image in images]),
        patients=tuple(image["patient"] for image in images),
        names=tuple(image["name"] for image in images),
        label_names=tuple(content["label_names"]),
        parts=tuple(image["part"] for image in images),
        read=lambda i: stack(pictures(i), request.image_size, request.channels, "sample"),
        attribution=content["attribution"],
    )


@lru_cache(maxsize=1)
def _content() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(__file__).with_name("sample.json").read_text())
    return content
