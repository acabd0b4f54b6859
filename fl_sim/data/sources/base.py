"""A data set: its index in memory, pixels loaded on demand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from fl_sim.data.dataset import XrayDataset
from fl_sim.data.errors import DataError

Part = Literal["private", "public", "test"]
SPLITS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True)
class DatasetRequest:
    """Which X-rays are wanted, and in what form.

    Parameters
    ----------
    name : str
        A key of :data:`fl_sim.data.DATASETS`.
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
        One of :data:`fl_sim.data.loading.ON_ERROR`: whether a file that cannot be read ends it, or
        is left out.
    """

    name: str
    path: str = ""
    image_size: int = 64
    channels: int = 1
    num_images: int = 0
    public: int | None = None
    test_fraction: float = 0.2
    seed: int = 0
    labels: str = ""
    uncertain: str = "refuse"
    columns: str = ""
    patients: str = "auto"
    max_value: float = 0
    on_error: str = "stop"

    def existing_path(self) -> Path:
        """Return ``path``, which has to exist.

        Raises
        ------
        DataError
            If it is empty or nothing is there.
        """
        if not self.path:
            raise DataError(f"data.path = '': the data set '{self.name}' needs a path")
        path = Path(self.path).expanduser()
        if not path.exists():
            raise DataError(f"data.path = '{self.path}': no such file or folder")
        return path


UNREAD = {
    "path": "reads no file; leave it empty ('folder' reads files of one's own)",
    "labels": "has no columns to choose from; leave it empty",
    "uncertain": "has no uncertain labels; must be refuse",
    "columns": "has no columns of one's own; leave it empty",
    "patients": "knows its own patients; must be auto",
    "max_value": "has a scale of its own; must be 0",
    "on_error": "has no files of one's own; must be stop",
}
"""Settings that not all data sets read, and why one does not."""

Maker = Callable[[DatasetRequest], "DatasetSource"]


def reads(*settings: str) -> Callable[[Maker], Maker]:
    """Declare which of :data:`UNREAD` a data set reads; the others are then refused."""

    def declare(maker: Maker) -> Maker:
        maker.reads = frozenset(settings)  # type: ignore[attr-defined]
        return maker

    return declare


@dataclass(frozen=True, kw_only=True)
class DatasetSource:
    """A data set before its pixels are read.

    Splitting needs only labels and patients, so of a large folder only the images that were
    chosen are ever decoded.

    Parameters
    ----------
    name, labels, patients, names, label_names, synthetic, attribution
        As in :class:`fl_sim.data.XrayDataset`, for all N images.
    parts : tuple of str
        One an image: ``"private"``, ``"public"`` or ``"test"``; empty if all are private.
        Without any ``"test"`` some of the private patients are held out; public images are
        taken from ``"public"`` first.
    read : callable
        Indices (n,) to pixels (n, C, H, W) uint8.
    holds_out_test : bool
        False for a set too small to hold out test images.
    notes : tuple of str
        How it was read, in lines: what was passed over, what tells the patients.
    unreadable : callable, optional
        From an index to why the image cannot be read, None where it can.
    """

    name: str
    labels: Tensor
    patients: tuple[str, ...]
    names: tuple[str, ...]
    label_names: tuple[str, ...]
    read: Callable[[np.ndarray], Tensor]
    attribution: str
    parts: tuple[Part, ...] = ()
    synthetic: bool = False
    holds_out_test: bool = True
    notes: tuple[str, ...] = ()
    unreadable: Callable[[int], str | None] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def take(self, indices: np.ndarray) -> XrayDataset:
        """Return the images at ``indices``, in that order, with their pixels."""
        return XrayDataset(
            name=self.name,
            images=self.read(indices),
            labels=self.labels[torch.as_tensor(indices)],
            patients=tuple(self.patients[i] for i in indices),
            names=tuple(self.names[i] for i in indices),
            label_names=self.label_names,
            synthetic=self.synthetic,
            attribution=self.attribution,
            notes=self.notes,
        )
