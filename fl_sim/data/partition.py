"""Dividing the private X-rays among clients, patient by patient."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence

import numpy as np

from adversary.common.seeding import derive_seed
from fl_sim.data.dataset import XrayDataset
from fl_sim.data.errors import DataError
from fl_sim.data.patients import Patients, shuffled

# (sizes (P,), classes (P,), clients, alpha, rng) -> client of each patient (P,)
Method = Callable[[np.ndarray, np.ndarray, int, float, np.random.Generator], np.ndarray]

# Skewed draws that leave a client empty are drawn anew, as often as this.
MAX_DRAWS = 1000


def iid(
    sizes: np.ndarray, classes: np.ndarray, clients: int, alpha: float, rng: np.random.Generator
) -> np.ndarray:
    """Give each client as many images as the next, at random.

    The largest patients go first, each to the client with the fewest images (Graham's longest
    processing time rule), so counts differ by no more than whole patients make necessary.
    ``classes`` and ``alpha`` do not matter here.
    """
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    assigned = np.empty(len(sizes), dtype=np.int64)
    # Clients with equal counts come in random order, anew for each patient.
    heap = [(0, rng.random(), client) for client in range(clients)]
    heapq.heapify(heap)
    for patient in order:
        count, _, client = heap[0]
        assigned[patient] = client
        heapq.heapreplace(heap, (count + int(sizes[patient]), rng.random(), client))
    return assigned


def dirichlet(
    sizes: np.ndarray, classes: np.ndarray, clients: int, alpha: float, rng: np.random.Generator
) -> np.ndarray:
    """Skew the labels: each class is shared out by its own draw from Dirichlet(alpha).

    Small ``alpha`` gives clients of few classes, large ``alpha`` an even mix (Yurochkin et al.,
    Bayesian nonparametric federated learning of neural networks, ICML 2019).
    """
    assigned = np.empty(len(sizes), dtype=np.int64)
    for value in np.unique(classes):
        shares = rng.dirichlet(np.full(clients, alpha))
        members = rng.permutation(np.flatnonzero(classes == value))
        assigned[members] = _cut(sizes[members], shares)
    return assigned


def quantity_skew(
    sizes: np.ndarray, classes: np.ndarray, clients: int, alpha: float, rng: np.random.Generator
) -> np.ndarray:
    """Skew the amounts: one draw from Dirichlet(alpha) shares out every class alike.

    Clients differ in size and not in their mix of labels (Li et al., Federated learning on
    non-IID data silos, ICDE 2022).
    """
    shares = rng.dirichlet(np.full(clients, alpha))
    assigned = np.empty(len(sizes), dtype=np.int64)
    for value in np.unique(classes):
        members = rng.permutation(np.flatnonzero(classes == value))
        assigned[members] = _cut(sizes[members], shares)
    return assigned


PARTITIONS: dict[str, Method] = {"iid": iid, "dirichlet": dirichlet, "quantity": quantity_skew}


def partition(
    dataset: XrayDataset,
    num_clients: int,
    *,
    method: str = "iid",
    alpha: float = 0.5,
    seed: int = 0,
    sizes: Sequence[int] = (),
) -> list[np.ndarray]:
    """Divide a data set among clients so that no patient is with two of them.

    Parameters
    ----------
    dataset : XrayDataset
        What is to be divided.
    num_clients : int
        At least 1.
    method : str
        A key of :data:`PARTITIONS`.
    alpha : float
        Concentration of the Dirichlet draws, above 0: the smaller, the more unlike the clients.
        ``iid`` does not use it.
    seed : int
        The same seed gives the same division.
    sizes : sequence of int
        Images of each client, each at least 1, instead of shares by ``method``; the rest of the
        images is with nobody.

    Returns
    -------
    list of ndarray
        Sorted image indices, one array a client, each with one image or more; together they
        are all images, unless ``sizes`` were given.

    Raises
    ------
    DataError
        If an argument is not allowed or a client would be left without an image.
    """
    if method not in PARTITIONS:
        raise DataError(f"data.partition = '{method}': allowed are {', '.join(PARTITIONS)}")
    if num_clients < 1:
        raise DataError(f"clients = {num_clients}: allowed are whole numbers from 1")
    if not (math.isfinite(alpha) and alpha > 0):
        raise DataError(f"data.alpha = {alpha}: allowed are numbers above 0")
    patients = Patients.of(dataset.patients, dataset.labels)
    if len(patients.names) < num_clients:
        raise DataError(
            f"client {len(patients.names)} has no data: {len(dataset)} images of"
            f" {len(patients.names)} patients cannot give each of {num_clients} clients one;"
            f" allowed are 1 to {len(patients.names)} clients"
        )
    rng = np.random.default_rng(derive_seed(seed, "data", "partition", method))
    if sizes:
        return by_sizes(patients, num_clients, sizes, rng)
    for _ in range(MAX_DRAWS):
        assigned = PARTITIONS[method](patients.sizes, patients.classes, num_clients, alpha, rng)
        filled = np.bincount(assigned, minlength=num_clients) > 0
        if filled.all():
            break
    else:
        raise DataError(
            f"client {int(np.argmin(filled))} has no data: data.partition = '{method}' with"
            f" data.alpha = {alpha} left a client of {num_clients} without any of the"
            f" {len(dataset)} images in {MAX_DRAWS} draws; take a larger alpha or fewer clients"
        )
    clients = assigned[patients.of_image]
    return [np.flatnonzero(clients == client) for client in range(num_clients)]


def by_sizes(
    patients: Patients, num_clients: int, sizes: Sequence[int], rng: np.random.Generator
) -> list[np.ndarray]:
    """Give each client as many images as ``sizes`` says, classes as they come, by whole patients.

    Raises
    ------
    DataError
        If there is not one size a client, or whole patients do not make up the sizes.
    """
    asked = f"data.sizes = '{', '.join(map(str, sizes))}'"
    total = int(patients.sizes.sum())
    if len(sizes) != num_clients:
        raise DataError(f"{asked}: one size for each of the {num_clients} clients is needed")
    if min(sizes) < 1 or sum(sizes) > total:
        raise DataError(f"{asked}: allowed are sizes from 1, {total} images together at most")
    order = shuffled(patients.classes, rng, balanced=False)
    found: dict[int, np.ndarray] = {}
    for client in np.argsort(sizes, kind="stable"):  # small ones first: they are harder to fill
        chosen, room = [], sizes[client]
        for patient in order:
            if patients.sizes[patient] <= room:
                chosen.append(patient)
                room -= int(patients.sizes[patient])
        if room:
            raise DataError(
                f"{asked}: whole patients of the {total} images do not make up {sizes[client]};"
                f" the nearest is {sizes[client] - room}"
            )
        order = order[~np.isin(order, chosen)]
        found[int(client)] = patients.images_of(np.array(chosen))
    return [found[client] for client in range(num_clients)]


def _cut(sizes: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return which share each of the consecutive patients falls in, by the middle of its images.

    Parameters
    ----------
    sizes : ndarray
        (P,) images of each patient.
    shares : ndarray
        (K,) non-negative, summing to 1.
    """
    middles = (np.cumsum(sizes) - sizes / 2) / sizes.sum()
    return np.searchsorted(np.cumsum(shares)[:-1], middles)
