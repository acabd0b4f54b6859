"""Sixteen real X-rays that travel with the code, for demonstrations without a download."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from fl_sim.data.files.images import decode, stack
from fl_sim.data.sources.base import DatasetRequest, DatasetSource, reads

PUBLIC = frozenset(
    {
        "NORMAL2-IM-1440-0001.jpeg",
        "NORMAL2-IM-1442-0001.jpeg",
        "person1952_bacteria_4883.jpeg",
        "person1954_bacteria_4886.jpeg",
    }
)


@reads()
def source(request: DatasetRequest) -> DatasetSource:
    """Return eight normal chests and eight with pneumonia, 256x256, of children aged 1 to 5.

    No test images are held out of so few, and the public four are the same whatever the seed, so
    that figures of several seeds speak of the same twelve. Written by
    :mod:`fl_sim.data.sources.embed`.
    """
    content = json.loads(Path(__file__).with_name("embedded.json").read_text())
    images = content["images"]

    def pictures(indices: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        for i in indices:
            name = images[i]["name"]
            yield name, decode(base64.b64decode(images[i]["png"]), name)

    return DatasetSource(
        name="embedded",
        labels=torch.tensor([image["label"] for image in images]),
        patients=tuple(image["patient"] for image in images),
        names=tuple(image["name"] for image in images),
        label_names=tuple(content["label_names"]),
        parts=tuple("public" if image["name"] in PUBLIC else "private" for image in images),
        read=lambda i: stack(pictures(i), request.image_size, request.channels, "embedded"),
        attribution=content["attribution"],
        holds_out_test=False,
    )
