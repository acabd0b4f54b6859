"""Which images make a batch: drawn by a seed, or as an index file of the authors' format says.

Their file is a table of whole numbers, a line a batch: the first B of a line are the images of a
batch of B, so that smaller batches are part of larger ones.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from adversary.common.seeding import generator
from benchmarks.encgradinversion.datasets import ImageSet
from benchmarks.encgradinversion.errors import PaperError


@dataclass(frozen=True)
class Selection:
    """Which images of a set are batch ``number`` of a size.

    Parameters
    ----------
    images : ImageSet
        The set.
    seed : int
        Of the draws.
    table : ndarray, optional
        (batches, images) of an index file; None to draw.
    """

    images: ImageSet
    seed: int
    table: np.ndarray | None = None

    @classmethod
    def of(cls, images: ImageSet, seed: int, path: Path | None) -> Selection:
        """Return the selection of an index file, or of a seed where there is none.

        Raises
        ------
        PaperError
            If the file holds anything but indices of this set, or the set is not there in full, so
            that its indices would name other images.
        """
        if path is None:
            return cls(images, seed)
        table = _read(path)
        if images.missing:
            raise PaperError(
                f"--index {path}: counts the images of the whole set, of which {images.missing} "
                "are missing; leave it out, or give the whole set"
            )
        wrong = table[(table < 0) | (table >= len(images))]
        if len(wrong):
            raise PaperError(
                f"--index {path}: {wrong[0]} is no image of {images.name}; must be 0 to "
                f"{len(images) - 1}"
            )
        return cls(images, seed, table)

    def indices(self, batch: int, number: int) -> list[int]:
        """Return the indices of a batch's images.

        Raises
        ------
        PaperError
            If there are not so many, or no such line.
        """
        if batch > len(self.images):
            raise PaperError(
                f"--batch {batch}: {self.images.name} has {len(self.images)} images; at most that"
            )
        if self.table is None:
            draw = generator(self.seed, "batch", number)
            return torch.randperm(len(self.images), generator=draw)[:batch].tolist()
        lines, columns = self.table.shape
        if batch > columns:
            raise PaperError(f"--batch {batch}: the index file has {columns} images a line")
        if number >= lines:
            raise PaperError(f"--batches {number + 1}: the index file has {lines} lines")
        return [int(index) for index in self.table[number, :batch]]


def _read(path: Path) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of empty files, which are refused below
            found = np.loadtxt(path, dtype=np.int64, ndmin=2)
    except (OSError, ValueError) as error:
        told = " ".join(str(error).split())
        raise PaperError(
            f"--index {path}: must be lines of as many whole numbers ({told})"
        ) from None
    if not found.size:
        raise PaperError(f"--index {path}: holds no index")
    return found
