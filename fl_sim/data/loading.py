"""One way to load any data set."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from fl_sim.data import embedded, folder, kermany, nih, phantom, pneumoniamnist, sample
from fl_sim.data.dataset import Splits
from fl_sim.data.errors import DataError
from fl_sim.data.source import Request, Source
from fl_sim.data.splits import split

DATASETS: dict[str, Callable[[Request], Source]] = {
    "embedded": embedded.source,
    "folder": folder.source,
    "kermany": kermany.source,
    "nih": nih.source,
    "phantom": phantom.source,
    "pneumoniamnist": pneumoniamnist.source,
    "sample": sample.source,
}

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
) -> Splits:
    """Return the private, public and test X-rays of a data set.

    The same arguments give the same images. The last few results are kept, so that a process
    may ask again at no cost; treat the tensors as read-only.

    Parameters
    ----------
    name : str
        A key of :data:`DATASETS`.
    path : str
        File or folder of the data; ``embedded``, ``sample`` and ``phantom`` need none, and
        ``pneumoniamnist`` is downloaded without one.
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
        One of :data:`fl_sim.data.folder.UNCERTAIN`: what uncertain labels of a CSV file count as.

    Raises
    ------
    DataError
        On every argument or file that cannot be used.
    """
    request = Request(
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
    )
    _check(request)
    return _load(request)


def _check(request: Request) -> None:
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
    if request.labels and request.name != "folder":
        raise DataError(
            f"data.labels = '{request.labels}': the data set '{request.name}' has no columns to"
            " choose from; leave it empty"
        )
    if request.uncertain not in folder.UNCERTAIN:
        allowed = ", ".join(folder.UNCERTAIN)
        raise DataError(f"data.uncertain = '{request.uncertain}': allowed are {allowed}")


@lru_cache(maxsize=4)
def _load(request: Request) -> Splits:
    source = DATASETS[request.name](request)
    if len(source.label_names) < 2 and source.labels.ndim == 1:
        raise DataError(
            f"{request.path}: the only label is '{source.label_names[0]}'; at least 2 are needed"
        )
    parts = split(source, request)
    # One read for all three, so that a warning about the files is given once.
    order = np.concatenate(list(parts.values()))
    chosen = source.take(order)
    ends = np.cumsum([len(indices) for indices in parts.values()])
    pieces = np.split(np.arange(len(order)), ends[:-1])
    return Splits(**{part: chosen.subset(p) for part, p in zip(parts, pieces, strict=True)})
