"""Labels that an update leaves open, for attacks that can tell right ones from wrong."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from adversary.labels import recovery
from adversary.optim.distances import array_distance
from adversary.problem.problem import Problem
from adversary.problem.update_models import assumed_batches, unrolled

MAX_ENUMERATED = 256
"""Label sequences up to which all are looked at, else only orders of those recovered."""

MAX_CANDIDATES = 4
"""Returned at most."""

DISTANCE_MARGIN = 2.0
"""Distance from the update, relative to the least, up to which labels stay candidates."""

CERTAIN = 6.0
"""Standard deviations of the noise by which the last layer's bias must tell a label apart."""


def likely_labels(problem: Problem, images: Tensor) -> list[Tensor]:
    """Return the labels that bring stand-in images nearest to the update, nearest first.

    All X-rays look alike to an untrained network beside what a label changes, so that the
    distance with the mean X-ray in the place of every image tells most labels. Images of one
    mini-batch have no order; which label was used in which step does matter.

    Parameters
    ----------
    problem : Problem
        What the attacker knows.
    images : Tensor
        (B, C, H, W) stand-ins, e.g. the mean public X-ray.

    Returns
    -------
    list of Tensor
        One to :data:`MAX_CANDIDATES` labels, (B,) indices or (B, C) multi-hot; those granted or,
        for a single image of one step, told beyond doubt are alone.
    """
    found = recovery.recover(problem)
    if problem.threat.labels is not None or (len(found) == 1 and told_by_bias(problem)):
        return [found]
    ranked = sorted(
        ((_distance(problem, images, given), given) for given in _assignments(problem, found)),
        key=lambda pair: pair[0],
    )
    least = ranked[0][0]
    return [given for distance, given in ranked if distance <= DISTANCE_MARGIN * least][
        :MAX_CANDIDATES
    ]


def told_by_bias(problem: Problem) -> bool:
    """Return whether the last layer's bias tells the label of a single image beyond its noise.

    Under cross-entropy its gradient is p - y, lowest at the label and negative there alone; under
    binary cross-entropy the sign of each entry tells. What noise may have turned is not told.
    """
    name, bias = problem.head.bias_name, problem.head.bias_gradient
    if bias is None or problem.beyond:
        return False
    masked = problem.threat.channel.observed.get(name)
    if masked is not None and not bool(masked.all()):
        return False
    if problem.loss == "bce":
        margin = float(bias.abs().min())
    else:
        lowest, second = bias.topk(2, largest=False).values.tolist()
        margin = (second - lowest) / math.sqrt(2)
    return margin > CERTAIN * problem.sigma(name)


def _assignments(problem: Problem, found: Tensor) -> Iterator[Tensor]:
    """Yield labels that differ in more than the order within a mini-batch."""
    batch, single = len(found), problem.loss == "cross-entropy"
    classes = problem.outputs if single else 2.0**problem.outputs
    if classes**batch <= MAX_ENUMERATED:
        rows = _all_labels(problem).to(found)
        orders: Iterator[tuple[int, ...]] = itertools.product(range(len(rows)), repeat=batch)
    else:
        rows = found
        permutations = itertools.permutations(range(batch))
        orders = itertools.islice(permutations, MAX_ENUMERATED)
    seen = problem.observation
    sizes = [batch]
    if seen.view == "client":
        sizes = [len(step) for step in assumed_batches(seen)]
    firsts = list(itertools.accumulate(sizes, initial=0))
    known: set[tuple[tuple[tuple[float, ...], ...], ...]] = set()
    values = [tuple(row) for row in rows.reshape(len(rows), -1).tolist()]
    for order in orders:
        key = tuple(
            tuple(sorted(values[i] for i in order[first:last]))
            for first, last in itertools.pairwise(firsts)
            if first < batch
        )
        if key not in known:
            known.add(key)
            yield rows[list(order)]


def _all_labels(problem: Problem) -> Tensor:
    """Return all labels of one image: (C,) indices, or (2^C, C) multi-hot."""
    if problem.loss == "cross-entropy":
        return torch.arange(problem.outputs)
    return torch.tensor(list(itertools.product((0, 1), repeat=problem.outputs)))


@torch.no_grad()
def _distance(problem: Problem, images: Tensor, given: Tensor) -> float:
    """Return the distance of the update from that of images with given labels, over arrays."""
    seen = problem.observation
    targets = problem.targets(given)
    if seen.steps > 1 and seen.view == "client":
        arrays = unrolled(problem, problem.parameters, images, targets)
    else:
        arrays = problem.expected(problem.parameters, images, targets)
    return math.sqrt(array_distance(arrays, problem.gradient))
