"""The X-rays that a client validates on, by patients of its own."""

from __future__ import annotations

import numpy as np

from adversary.common.seeding import derive_seed
from fl_sim.data.dataset import XrayDataset
from fl_sim.data.patients import Patients, shuffled


def hold_out(
    part: XrayDataset, fraction: float, *, seed: int, client: int
) -> tuple[np.ndarray, np.ndarray]:
    """Divide a client's X-rays into those to train and those to validate on.

    No patient is in both, and the classes of patients are mixed as they come. Where no patient
    has so few images, or there is but one, nothing is held out.

    Parameters
    ----------
    part : XrayDataset
        The client's X-rays, N >= 1.
    fraction : float
        Share of the images to validate on, at most, in [0, 1).
    seed : int
        The run seed.
    client : int
        Clients draw independently.

    Returns
    -------
    tuple of ndarray
        Sorted indices of the images to train on, at least one, and to validate on.
    """
    patients = Patients.of(part.patients, part.labels)
    rng = np.random.default_rng(derive_seed(seed, "data", "validation", client))
    room = min(round(fraction * len(part)), len(part) - 1)
    chosen = []
    for patient in shuffled(patients.classes, rng, balanced=False):
        if patients.sizes[patient] <= room:
            chosen.append(patient)
            room -= patients.sizes[patient]
    held_out = patients.images_of(np.array(chosen, dtype=np.int64))
    return np.setdiff1d(np.arange(len(part)), held_out), held_out
