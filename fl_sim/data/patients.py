"""Images grouped by patient: the unit that every split and partition moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Patients:
    """P patients of N images.

    Parameters
    ----------
    names : ndarray
        (P,) sorted names.
    of_image : ndarray
        (N,) number of the patient whom an image shows.
    sizes : ndarray
        (P,) images a patient has.
    classes : ndarray
        (P,) the class that most images of a patient have. For multi-hot labels each combination
        of labels counts as one class.
    """

    names: np.ndarray
    of_image: np.ndarray
    sizes: np.ndarray
    classes: np.ndarray

    @classmethod
    def of(cls, patients: Sequence[str], labels: Tensor) -> Patients:
        """Group N images by the patient names and (N,) or (N, L) labels."""
        names, of_image, sizes = np.unique(
            np.asarray(patients, dtype=str), return_inverse=True, return_counts=True
        )
        _, image_classes = np.unique(labels.numpy(), axis=0, return_inverse=True)
        image_classes = image_classes.reshape(-1)
        counts = np.zeros((len(names), image_classes.max(initial=0) + 1), dtype=np.int64)
        np.add.at(counts, (of_image, image_classes), 1)
        return cls(names, of_image, sizes, counts.argmax(axis=1))

    def images_of(self, chosen: np.ndarray) -> np.ndarray:
        """Return the sorted image indices of the patients numbered ``chosen``."""
        return np.flatnonzero(np.isin(self.of_image, chosen))


def shuffled(classes: np.ndarray, rng: np.random.Generator, *, balanced: bool) -> np.ndarray:
    """Return a random order whose every prefix has a fair mix of classes.

    Parameters
    ----------
    classes : ndarray
        (P,) integers.
    rng : numpy.random.Generator
        Source of the order.
    balanced : bool
        True: prefixes hold each class equally often. False: as often as ``classes`` does.

    Returns
    -------
    ndarray
        (P,) permutation.
    """
    position = np.empty(len(classes))
    for value in np.unique(classes):
        members = rng.permutation(np.flatnonzero(classes == value))
        position[members] = np.arange(len(members)) + 0.5
        if not balanced:
            position[members] /= len(members)
    return np.lexsort((rng.random(len(classes)), position))
