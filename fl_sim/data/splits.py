"""Who is private, who is public, who is a test patient."""

from __future__ import annotations

import numpy as np

from adversary.common.seeding import derive_seed
from fl_sim.data.errors import DataError
from fl_sim.data.patients import Patients, shuffled
from fl_sim.data.sources.base import SPLITS, DatasetRequest, DatasetSource, Part

FEW_PUBLIC = 4
"""Public images of a data set that calls none of its own public, if nothing else is said."""


def split(source: DatasetSource, request: DatasetRequest) -> dict[Part, np.ndarray]:
    """Return the image indices of each part; no patient is in two of them.

    Public patients are drawn with the classes in equal numbers, since a prior should know each
    of them; test and private patients with the classes as they come.

    Raises
    ------
    DataError
        If the source itself has a patient in two parts, has fewer images than asked for, or
        would have none left for the clients.
    """
    if request.num_images > len(source):
        raise DataError(
            f"data.num-images = {request.num_images}: '{source.name}' has {len(source)} images;"
            f" allowed are 0 (all) to {len(source)}"
        )
    patients = Patients.of(source.patients, source.labels)
    own = _own_parts(source, patients)
    _check_one_patient(source, patients, request)
    rng = np.random.default_rng(derive_seed(request.seed, "data", "split"))

    def draw(part: Part, *, balanced: bool) -> np.ndarray:
        members = np.flatnonzero(own == part)
        return members[shuffled(patients.classes[members], rng, balanced=balanced)]

    candidates = [draw("public", balanced=True), draw("private", balanced=True)]
    wanted = request.public
    if wanted is None:
        marked = 0 if request.num_images else int(patients.sizes[candidates[0]].sum())
        wanted = marked or FEW_PUBLIC
    public = _pick(np.concatenate(candidates), patients.sizes, wanted)

    private, held_out = draw("private", balanced=False), draw("test", balanced=False)
    private = private[~np.isin(private, public)]
    tested = _test_images(source, request, int(patients.sizes[held_out].sum()))
    test = _pick(held_out if len(held_out) else private, patients.sizes, tested)

    private = private[~np.isin(private, test)]
    if request.num_images:
        taken = int(patients.sizes[public].sum() + patients.sizes[test].sum())
        private = _pick(private, patients.sizes, request.num_images - taken)
    if not len(private):
        raise DataError(
            f"data.public = {wanted}, data.test-fraction = {request.test_fraction}: they"
            f" leave no image of the {request.num_images or len(source)} of '{source.name}' to"
            " the clients"
        )
    return {
        "private": patients.images_of(private),
        "public": patients.images_of(public),
        "test": patients.images_of(test),
    }


def readable(
    source: DatasetSource, parts: dict[Part, np.ndarray]
) -> tuple[dict[Part, np.ndarray], list[str]]:
    """Return the images of each part that can be read, and in a line which cannot.

    Raises
    ------
    DataError
        If none of the private ones can.
    """
    if source.unreadable is None:
        return parts, []
    reasons = {i: source.unreadable(int(i)) for indices in parts.values() for i in indices.tolist()}
    failed = [reason for reason in reasons.values() if reason]
    kept = {
        part: indices[[reasons[i] is None for i in indices.tolist()]].astype(np.int64)
        for part, indices in parts.items()
    }
    if failed and not len(kept["private"]):
        raise DataError(f"none of the clients' images can be read; {failed[0]}")
    told = [f"skipped: {len(failed)} files that cannot be read; {first}" for first in failed[:1]]
    return kept, told


def _check_one_patient(source: DatasetSource, patients: Patients, request: DatasetRequest) -> None:
    """Raise where all images are of one patient, who cannot be in several parts."""
    if (
        len(patients.names) == 1
        and len(source) > 1
        and (request.public != 0 or request.test_fraction)
    ):
        raise DataError(
            f"'{source.name}': all {len(source)} images count as one patient,"
            f" '{patients.names[0]}', who cannot be private and public at once; if they are"
            " several people, data.patients = image counts each image as one"
        )


def _own_parts(source: DatasetSource, patients: Patients) -> np.ndarray:
    """Return the part that the source itself gives each patient, (P,)."""
    numbers = np.array([SPLITS.index(part) for part in source.parts or ("private",) * len(source)])
    first = np.full(len(patients.names), len(SPLITS))
    last = np.full(len(patients.names), -1)
    np.minimum.at(first, patients.of_image, numbers)
    np.maximum.at(last, patients.of_image, numbers)
    if (first != last).any():
        patient = int(np.flatnonzero(first != last)[0])
        raise DataError(
            f"{source.name}: patient '{patients.names[patient]}' has images in"
            f" '{SPLITS[first[patient]]}' and in '{SPLITS[last[patient]]}'; a patient may be in one"
            " split only"
        )
    return np.array(SPLITS)[first]


def _test_images(source: DatasetSource, request: DatasetRequest, own_test_images: int) -> int:
    """Return how many test images are wanted."""
    if not source.holds_out_test:
        return 0
    if own_test_images and request.test_fraction and not request.num_images:
        return own_test_images
    return round(request.test_fraction * (request.num_images or len(source)))


def _pick(order: np.ndarray, sizes: np.ndarray, count: int) -> np.ndarray:
    """Return patients, first in ``order`` first, with at most ``count`` images together.

    Where not even one patient has so few images, the smallest is returned.
    """
    chosen = []
    room = count
    for patient in order:
        if sizes[patient] <= room:
            chosen.append(patient)
            room -= sizes[patient]
    if count > 0 and len(order) and not chosen:
        chosen.append(order[np.argmin(sizes[order])])
    return np.array(chosen, dtype=np.int64)
