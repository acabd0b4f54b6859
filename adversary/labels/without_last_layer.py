"""Labels of an update that comes without the last layer, where all others read them."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from adversary.observation.observation import ObservationError
from adversary.optim.distances import array_distance
from adversary.problem.problem import Problem

MAX_SEQUENCES = 256
"""Label sequences at most: each costs the gradient of one batch."""


def labels_by_backbone_gradient(problem: Problem, image: Tensor) -> Tensor:
    """Return the labels whose gradient, at a proxy image, is closest to the update.

    All X-rays look alike to a network beside what a label changes. The last layer is the one that
    the server sent: a client that keeps its own has moved on from it after the first round, by how
    far is not known.

    Parameters
    ----------
    problem : Problem
        What the attacker knows.
    image : Tensor
        (1, C, H, W) in [0, 1], e.g. the mean public X-ray.

    Returns
    -------
    Tensor
        (B,) class indices in ascending order, or (B, C) multi-hot.

    Raises
    ------
    ObservationError
        If there are more than :data:`MAX_SEQUENCES` label sequences to try.
    """
    batch, outputs = problem.shape[0], problem.outputs
    multi_label = problem.loss == "bce"
    kinds = 2**outputs if multi_label else outputs
    if math.comb(kinds + batch - 1, batch) > MAX_SEQUENCES:
        raise ObservationError(
            f"{problem.name}: no gradient of the last layer, and more than {MAX_SEQUENCES} labels "
            f"that {batch} images of {outputs} outputs could have; labels unknown"
        )
    rows = torch.arange(outputs)
    if multi_label:
        rows = torch.tensor(list(itertools.product((0.0, 1.0), repeat=outputs)))
    sequences = itertools.combinations_with_replacement(range(kinds), batch)
    tried = [rows[list(sequence)].to(problem.device) for sequence in sequences]
    images = image.expand(problem.shape)
    return min(tried, key=lambda labels: _misfit(problem, images, labels))


@torch.no_grad()
def _misfit(problem: Problem, images: Tensor, labels: Tensor) -> float:
    """Return how far the gradient of images with these labels is from what was sent."""
    expected = problem.expected(problem.parameters, images, problem.targets(labels))
    return array_distance(expected, problem.gradient)
