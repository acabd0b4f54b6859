"""Which units of a ReLU layer are on, from the gradient of the layer below it alone.

Let all units of one output of a network see the same gradient but for their own known factor, as
those before the mean over positions do. Then the gradient of the weights below, its rows divided
by these factors, is M R with a column of M of zeros and ones for every image and position, on or
off, and a row of R for what the weights see there. M is found as those vectors of zeros and ones
that lie in the space which the columns of the gradient span: few values of a vector in it fix all
others. Dimitrov et al., "SPEAR: Exact gradient inversion of batches in federated learning"
(NeurIPS 2024) search the same space for sparse vectors, of fully connected layers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

MAX_COLUMNS = 16
"""Columns at most: 2^n vectors are looked at."""

VECTORS_PER_CHUNK = 4096
"""Vectors, or sets of them, looked at together."""

BINARY_TOLERANCE = 0.05
"""Root mean square distance from zeros and ones up to which a vector counts."""

RANK_TOLERANCE = 1e-5
"""Least singular value, relative to the largest, of a space of full dimension."""

MAX_SETS = 200_000
"""Sets of vectors at most."""

SIGN_SLACK = 1e-3
"""Share of a row's largest entry up to which others may have the other sign."""

SIGN_SIGMAS = 5.0
"""Standard deviations of its noise up to which they may."""

MIN_NOISE_RATIO = 1.5
"""Of what noise makes two positions differ by, more than which is a difference."""

MAX_OVERLAP_DIFFERENCE = 1e-2
"""Relative difference of what two positions see in common."""


def binary_factorizations(
    rows: Tensor, weights: Tensor, count: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield ways to write a matrix as M R, M of zeros and ones, each row of R of one sign.

    Where few units differ between positions, M R has many ways with an M of zeros and ones; that
    a ReLU has put out what the rows of R hold leaves few of them.

    Parameters
    ----------
    rows : Tensor
        (m, k) of rank ``count``, but for noise.
    weights : Tensor
        (m,), how exact each row is; inverse standard deviations up to a factor.
    count : int
        n, 1 to :data:`MAX_COLUMNS`.

    Yields
    ------
    tuple of Tensor
        M, (m, n), R, (n, k), and the standard deviation of an entry of each row of R, (n,).
        Nothing if the rank is another or there are no such vectors.
    """
    if not 0 < count <= min(MAX_COLUMNS, *rows.shape):
        return
    weighted = rows * weights[:, None]
    left, values, right = torch.linalg.svd(weighted, full_matrices=False)
    if not values[count - 1] > RANK_TOLERANCE * values[0]:
        return
    space = rows @ right[:count].T / values[:count]
    picked = pivots(left[:, :count])
    basis = space[picked]
    space = torch.linalg.solve(basis.T, space.T).T
    seen = basis * values[:count] @ right[:count]  # rows = space @ seen
    spare = max(1, (len(rows) - count) * (rows.shape[1] - count))
    noise = (values[count:].square().sum() / spare).sqrt()
    spread = torch.linalg.pinv(space * weights[:, None])  # of what unit noise leaves in R
    codes = binary_vectors(space, weights.square() / weights.square().sum(), count)
    for chosen in _sets(len(codes), count, rows.device):
        sets = codes[chosen]
        independent = torch.linalg.det(sets).abs() > 0.5  # of integers
        sets = sets[independent]
        if not len(sets):
            continue
        found = torch.linalg.solve(sets.transpose(1, 2), seen.expand(len(sets), -1, -1))
        own = torch.linalg.solve(sets.transpose(1, 2), spread.expand(len(sets), -1, -1))
        deviation = noise * own.norm(dim=2)
        largest, least = found.amax(2), found.amin(2)
        allowed = SIGN_SLACK * torch.maximum(largest, -least) + SIGN_SIGMAS * deviation
        fitting = ((least >= -allowed) | (largest <= allowed)).all(1)
        for code, one, error in zip(sets[fitting], found[fitting], deviation[fitting], strict=True):
            yield (space @ code.T).round().clamp(0, 1), one, error


def binary_vectors(space: Tensor, share: Tensor, count: int) -> Tensor:
    """Return which combinations of columns hold zeros and ones alone, (K, n), nearest first."""
    numbers = torch.arange(1, 2**count, device=space.device)
    codes = (numbers[:, None] >> torch.arange(count, device=space.device) & 1).to(space)
    strays = torch.cat(
        [
            ((v - v.round().clamp(0, 1)).square() * share[:, None]).sum(0)
            for v in (space @ part.T for part in codes.split(VECTORS_PER_CHUNK))
        ]
    ).sqrt()
    order = strays.argsort()
    return codes[order[strays[order] <= BINARY_TOLERANCE]]


def _sets(size: int, count: int, device: torch.device) -> Iterator[Tensor]:
    """Yield index sets, (CHUNK, n) at a time: of the first few vectors before those of more."""
    every = itertools.islice(
        (
            (*rest, last)
            for last in range(count - 1, size)
            for rest in itertools.combinations(range(last), count - 1)
        ),
        MAX_SETS,
    )
    while part := list(itertools.islice(every, VECTORS_PER_CHUNK)):
        yield torch.tensor(part, device=device)


def pivots(space: Tensor) -> Tensor:
    """Return n rows of an (m, n) matrix, each the farthest from those before it."""
    left, found = space.clone(), []
    for _ in range(space.shape[1]):
        pivot = int(left.square().sum(1).argmax())
        found.append(pivot)
        direction = left[pivot] / left[pivot].norm()
        left = left - (left @ direction)[:, None] * direction
    return torch.tensor(found, device=space.device)


def patch_positions(
    patches: Tensor, stride: Sequence[int], grid: Sequence[int], noise: Tensor | None = None
) -> Tensor | None:
    """Return at which image and position each patch was taken, by what neighbours share.

    Parameters
    ----------
    patches : Tensor
        (n, C, k, k'), what a convolution sees at its positions, in no order.
    stride : sequence of int
        Of the convolution, down and right.
    grid : sequence of int
        Its output's height and width; empty where it has no positions.
    noise : Tensor, optional
        (n,), standard deviation of an entry of each patch; by default 0.

    Returns
    -------
    Tensor or None
        (n,) indices image * height * width + position, images in the order of their first patch;
        None where the patches do not make up whole images.
    """
    if math.prod(grid) == 1:
        return torch.arange(len(patches))
    height, width = grid
    noise = patches.new_zeros(len(patches)) if noise is None else noise
    right = _is_right_neighbour(patches, stride[1], noise)
    down = _is_right_neighbour(patches.transpose(2, 3), stride[0], noise)
    found = torch.full((len(patches),), -1)
    image = 0
    for first in range(len(patches)):
        if found[first] >= 0:
            continue
        at = {first: (0, 0)}
        queue = [first]
        while queue:
            i = queue.pop()
            y, x = at[i]
            for j in range(len(patches)):
                steps = (
                    (right[i, j], (y, x + 1)), (right[j, i], (y, x - 1)),
                    (down[i, j], (y + 1, x)), (down[j, i], (y - 1, x)),
                )  # fmt: skip
                for near, place in steps:
                    if near and j not in at:
                        at[j] = place
                        queue.append(j)
        top, left = (min(p[axis] for p in at.values()) for axis in (0, 1))
        places = {(y - top) * width + x - left for y, x in at.values()}
        inside = all(y - top < height and x - left < width for y, x in at.values())
        if not inside or len(at) != height * width or len(places) != len(at):
            return None
        for j, (y, x) in at.items():
            found[j] = (image * height + y - top) * width + x - left
        image += 1
    return found


def _is_right_neighbour(patches: Tensor, step: int, noise: Tensor) -> Tensor:
    """Return whether j is the right neighbour of i, (n, n): they share all but ``step`` columns."""
    if step >= patches.shape[3]:
        return torch.zeros(len(patches), len(patches), dtype=torch.bool)
    left = patches[..., step:].flatten(1)
    right = patches[..., :-step].flatten(1)
    size = left.norm(dim=1)[:, None] + right.norm(dim=1)[None, :]
    apart = torch.cdist(left, right)
    entries = left.shape[1]
    least = MIN_NOISE_RATIO * (entries * (noise[:, None].square() + noise.square())).sqrt()
    whole = patches.flatten(1).norm(dim=1)
    shown = size > MAX_OVERLAP_DIFFERENCE * torch.maximum(whole[:, None], whole) + least
    near = (apart < MAX_OVERLAP_DIFFERENCE * size + least) & shown
    return near & ~torch.eye(len(patches), dtype=torch.bool, device=patches.device)
