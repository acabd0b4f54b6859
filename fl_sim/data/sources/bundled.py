"""X-rays that travel with the code, in JSON files beside this one.

Flower's bundle takes JSON, and Flower's hub no file above 1 MiB.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fl_sim.data.files.images import decode, stack
from fl_sim.data.sources.base import DatasetRequest, DatasetSource, Part


def bundled(
    name: str,
    request: DatasetRequest,
    *,
    encoding: str,
    part: Callable[[Mapping[str, Any]], Part],
    holds_out_test: bool = True,
) -> DatasetSource:
    """Return the X-rays of ``NAME.json``, or of ``NAME-PART.json`` one after the other.

    Parameters
    ----------
    name : str
        Of the data set, and of its files.
    request : DatasetRequest
        What is asked for.
    encoding : str
        Under which key the file has an image, in base64.
    part : callable
        From an image's entry in the file to its split.
    holds_out_test : bool
        As in :class:`DatasetSource`.
    """
    content = _content(name)
    images = content["images"]

    def pictures(indices: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        for i in indices:
            file = images[i]["name"]
            yield file, decode(base64.b64decode(images[i][encoding]), file)

    return DatasetSource(
        name=name,
        labels=torch.tensor([image["label"] for image in images]),
        patients=tuple(image["patient"] for image in images),
        names=tuple(image["name"] for image in images),
        label_names=tuple(content["label_names"]),
        parts=tuple(part(image) for image in images),
        read=lambda i: stack(pictures(i), request.image_size, request.channels, name),
        attribution=content["attribution"],
        holds_out_test=holds_out_test,
    )


@lru_cache(maxsize=2)
def _content(name: str) -> dict[str, Any]:
    files = sorted(Path(__file__).parent.glob(f"{name}*.json"))
    first, *others = [json.loads(file.read_text()) for file in files]
    return {**first, "images": [image for one in (first, *others) for image in one["images"]]}
