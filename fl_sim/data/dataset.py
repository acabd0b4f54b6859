"""X-rays in memory, with what belongs to each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

Indices = Sequence[int] | np.ndarray | Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class XrayDataset:
    """X-rays, their labels and whose they are.

    Parameters
    ----------
    name : str
        Name of the data set, for reports.
    images : Tensor
        (N, C, H, W) uint8, a quarter of the memory of floats.
    labels : Tensor
        (N,) int64 class indices, or (N, L) float32 multi-hot.
    patients : tuple of str
        Whose image it is, one an image; several images may be of one patient.
    names : tuple of str
        One name an image, e.g. its file name.
    label_names : tuple of str
        One name a class (or a label, if multi-hot).
    synthetic : bool
        True where no image shows a real person.
    attribution : str
        Source and licence, to be printed wherever the images are shown.
    notes : tuple of str
        How the whole data set was read, in lines for a person.

    Raises
    ------
    ValueError
        If the fields differ in length or the images are not uint8.
    """

    name: str
    images: Tensor
    labels: Tensor
    patients: tuple[str, ...]
    names: tuple[str, ...]
    label_names: tuple[str, ...]
    synthetic: bool
    attribution: str
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        lengths = {len(self.images), len(self.labels), len(self.patients), len(self.names)}
        if len(lengths) != 1 or self.images.ndim != 4 or self.images.dtype != torch.uint8:
            raise ValueError(
                f"images {tuple(self.images.shape)} {self.images.dtype}, {len(self.labels)} labels,"
                f" {len(self.patients)} patients and {len(self.names)} names do not fit together"
            )

    def __len__(self) -> int:
        return len(self.images)

    def tensor(self, indices: Indices) -> Tensor:
        """Return the images at ``indices``, (B, C, H, W) float32 in [0, 1]."""
        return self.images[_as_index(indices)].float().div_(255)

    def subset(self, indices: Indices) -> XrayDataset:
        """Return the images at ``indices``, in that order, as a data set of their own."""
        index = _as_index(indices)
        return replace(
            self,
            images=self.images[index],
            labels=self.labels[index],
            patients=tuple(self.patients[i] for i in index.tolist()),
            names=tuple(self.names[i] for i in index.tolist()),
        )


@dataclass(frozen=True)
class Splits:
    """Three data sets that share no patient.

    Parameters
    ----------
    private : XrayDataset
        What the clients train on, at least one image.
    public : XrayDataset
        What the attacker's prior may use; may be empty.
    test : XrayDataset
        What the global model is evaluated on; may be empty.
    """

    private: XrayDataset
    public: XrayDataset
    test: XrayDataset


def _as_index(indices: Indices) -> Tensor:
    if isinstance(indices, Tensor):
        return indices.long()
    return torch.as_tensor(np.asarray(indices, dtype=np.int64))
