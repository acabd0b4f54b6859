"""The X-rays of one client, as a file lists them: what an audit is scored by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fl_sim.data.dataset import XrayDataset
from fl_sim.data.errors import DataError
from fl_sim.data.loading import DATASETS, check_request, load
from fl_sim.data.sources.base import DatasetRequest
from fl_sim.data.summary import in_lines

BACKGROUND_IMAGES = 256
"""Other patients, at most, among whom a reconstruction is re-identified."""


@dataclass(frozen=True, kw_only=True)
class ClientImages:
    """What a file tells of one client.

    Parameters
    ----------
    used : XrayDataset
        The images that went into an update, in the order asked for.
    public : Tensor
        (N, C, H, W) in [0, 1], X-rays of other patients that are public; N >= 1.
    candidates : Tensor
        (M, C, H, W) in [0, 1]: the images used, and one of each of the other patients.
    """

    used: XrayDataset
    public: Tensor
    candidates: Tensor


def images_of_client(request: DatasetRequest, indices: Sequence[int] | None = None) -> ClientImages:
    """Read the images behind an update.

    Parameters
    ----------
    request : Request
        Which file, and how its images are to be prepared; nothing is split or drawn from it.
    indices : sequence of int, optional
        Rows of the file, from 0; by default all that are neither public nor for testing.

    Raises
    ------
    DataError
        If the file or an index cannot be used.
    """
    check_request(request)
    source = DATASETS[request.name](request)
    parts = np.array(source.parts or ("private",) * len(source))
    private = np.flatnonzero(parts == "private")
    chosen = private if indices is None else np.array(indices, dtype=np.int64)
    if not len(chosen):
        raise DataError(f"{request.path or request.name}: all images are public or for testing")
    for index in chosen:
        if not 0 <= index < len(source):
            raise DataError(
                f"--indices {index}: '{source.name}' has {len(source)} images; allowed are 0 to"
                f" {len(source) - 1}"
            )
        if parts[index] == "public":
            raise DataError(f"--indices {index}: '{source.names[index]}' is a public image")
    used = replace(source.take(chosen), notes=tuple(in_lines(source, source.notes)))
    public = source.read(np.flatnonzero(parts == "public"))
    seen = {source.patients[i] for i in chosen}
    others: dict[str, int] = {}
    for i in private:
        if source.patients[i] not in seen:
            others.setdefault(source.patients[i], int(i))
    rest = source.read(np.array(list(others.values())[:BACKGROUND_IMAGES], dtype=np.int64))
    return ClientImages(
        used=used,
        public=_unit(public) if len(public) else public_xrays(request.image_size, request.channels),
        candidates=_unit(torch.cat([used.images, rest])),
    )


def public_xrays(image_size: int, channels: int) -> Tensor:
    """Return the public X-rays that travel with the code, (4, C, H, W) in [0, 1]."""
    return _unit(load("embedded", image_size=image_size, channels=channels).public.images)


def with_class_numbers(used: XrayDataset, outputs: int, loss: str) -> XrayDataset:
    """Return the images with labels as the outputs of a model count them.

    Labels that are whole numbers are the classes themselves: a client need not have all of them.

    Raises
    ------
    DataError
        If the labels do not fit the outputs or the loss.
    """
    several = used.labels.ndim == 2
    if several != (loss == "bce") and (several or outputs > 1):
        fitting = "bce" if several else "cross-entropy"
        kind = "several labels" if several else "one label"
        raise DataError(
            f"model.loss = '{loss}': '{used.name}' has {kind} an image; must be {fitting}"
        )
    if several:
        if len(used.label_names) != outputs:
            raise DataError(
                f"'{used.name}' has {len(used.label_names)} labels an image, and the model"
                f" {outputs} outputs; data.labels chooses columns"
            )
        return used
    classes = max(outputs, 2)  # one output tells two classes apart
    if not all(name.isdecimal() for name in used.label_names):
        if len(used.label_names) != classes:
            raise DataError(
                f"'{used.name}' names {len(used.label_names)} labels, and the model tells"
                f" {classes}; write the numbers of the classes, from 0, in their place"
            )
        return used
    labels = torch.tensor([int(name) for name in used.label_names])[used.labels]
    if int(labels.max()) >= classes:
        raise DataError(
            f"'{used.name}': label {int(labels.max())}; the model tells {classes} classes, so"
            f" allowed are 0 to {classes - 1}"
        )
    return replace(used, labels=labels)


def _unit(images: Tensor) -> Tensor:
    return images.float() / 255
