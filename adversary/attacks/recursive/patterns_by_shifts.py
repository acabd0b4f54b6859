r"""Which units of a ReLU layer are on, where a convolution below it sees the same maps shifted.

As in :mod:`adversary.attacks.recursive.patterns_by_enumeration` the gradient of the weights below,
its rows divided by their factors, is M R: M holds a column of zeros and ones for each of n images
and positions, R a row for what stands there. Of a convolution that keeps the size of its maps, the
gradient by tap k is

    D_k = M T_k R,    T_k the shift of an image's positions that tap k is, with zeros from outside,

so that with M = U W^-1 for any basis U of the columns, and U C_k = D_k,

    W C_k = T_k W C_0,    k = 0 the tap in the middle.

This is linear in W. Shifts along both axes, with zeros from outside, commute with multiples of one
alone, so that for one image W is told up to a factor, which M being of zeros and ones tells. For B
images the solutions mix the images, position by position alike: a matrix of B by B is left, told
as those mixtures that hold zeros and ones alone. Nothing is searched for among positions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from adversary.attacks.recursive.patterns_by_enumeration import binary_vectors, pivots
from adversary.common.seeding import generator

MAX_UNKNOWNS = 20_000
"""Unknowns at most, n times the positions: the square of which are worked with."""

MAX_IMAGES = 10
"""Images at most: 2^B mixtures are looked at."""

SINGULAR_GAP = 3.0
"""Least singular value of the gradient, relative to the next: what rounding leaves."""

SUBSPACE_ITERATIONS = 4
"""Of the solutions, which next to all else have eigenvalues of noise alone."""

EXTRA_VECTORS = 2
"""Vectors iterated beside them."""

MIN_FACTOR = 1e-12
"""Factor of an output, relative to the largest, up to which it tells nothing."""

EIGENVALUE_SHIFT = 1e-13
"""Added to eigenvalues of about 1, so that they are not zero."""


def patterns_by_shifts(
    gradient: Tensor, factors: Tensor, taps: Tensor, images: int
) -> tuple[Tensor, Tensor] | None:
    """Return which units are on, and whether what the weights see is positive.

    Parameters
    ----------
    gradient : Tensor
        (O, I, k), of the convolution's weights, k taps.
    factors : Tensor
        (O,), of each output: its error where it is on, of all images and positions up to a factor
        of each image.
    taps : Tensor
        (Q, k, P), one where a tap meets an input position for an output position.
    images : int
        B, of which the gradient is.

    Returns
    -------
    tuple of Tensor, or None
        Units, (B, O, P), images in no order, and the sign of each image's factor, (B,). None where
        the shifts do not tell them.
    """
    inputs, count, positions = taps.shape
    columns = images * positions
    fitting = columns <= min(len(gradient), count * gradient.shape[1])
    if (
        not fitting
        or inputs != positions
        or columns * positions > MAX_UNKNOWNS
        or images > MAX_IMAGES
    ):
        return None
    shift = taps.permute(1, 2, 0)
    same = torch.eye(positions).to(taps)
    middle = [k for k in range(count) if torch.equal(shift[k], same)]
    if not middle or count == 1:
        return None
    rows = gradient.transpose(1, 2).flatten(1)
    left, sizes, right = torch.linalg.svd(rows, full_matrices=False)
    if columns < len(sizes) and not sizes[columns - 1] > SINGULAR_GAP * sizes[columns]:
        return None
    seen = right[:columns].unflatten(1, (count, -1)).transpose(0, 1)  # C_k, whitened
    mixed = _solutions(seen, shift, middle[0], images)
    space = left[:, :columns] * sizes[:columns]
    units = _unmix(torch.linalg.solve(mixed.T, space.T).T, factors, images)
    if units is None:
        return None
    errors = (units * factors[:, None]).movedim(1, 0).flatten(1)
    met = torch.linalg.lstsq(errors, rows.sum(1, keepdim=True)).solution  # at all taps together
    return units, met.view(images, -1).sum(1).sign()


def _solutions(seen: Tensor, shift: Tensor, middle: int, images: int) -> Tensor:
    """Return W, (B P, n), the blocks of P rows with the least sum of |W C_k - T_k W C_0|^2."""
    _, columns, _ = seen.shape
    positions = shift.shape[1]
    normal = seen.new_zeros(positions, columns, positions, columns)
    for k in range(len(seen)):
        if k == middle:
            continue
        own, other = seen[k] @ seen[k].T, seen[k] @ seen[middle].T
        for p in range(positions):
            normal[p, :, p] += own
        for p, q in shift[k].nonzero().tolist():
            normal[q, :, q] += seen[middle] @ seen[middle].T
            normal[p, :, q] -= other
            normal[q, :, p] -= other.T
    square = normal.view(positions * columns, -1)
    square.diagonal().add_(EIGENVALUE_SHIFT * float(square.diagonal().mean()))
    factor = torch.linalg.cholesky(square)
    draw = generator(0, "shifts")
    found = torch.randn(len(square), images + EXTRA_VECTORS, generator=draw).to(square)
    for _ in range(SUBSPACE_ITERATIONS):
        found = torch.linalg.qr(torch.cholesky_solve(found, factor))[0]
    back = torch.linalg.eigh(found.T @ torch.cholesky_solve(found, factor))[1]
    best = found @ back[:, -images:]
    return best.T.reshape(images * positions, columns)


def _unmix(mixtures: Tensor, factors: Tensor, images: int) -> Tensor | None:
    """Return the mixtures of columns, (O, B P), that are zeros and ones: (B, O, P)."""
    size = factors.abs() / factors.abs().max()
    used = size > MIN_FACTOR
    each = (mixtures[used] / factors[used, None]).unflatten(1, (images, -1)).transpose(1, 2)
    flat, weight = each.flatten(0, 1), size[used].repeat_interleave(each.shape[1])
    basis = flat[pivots(flat * weight[:, None])]
    space = torch.linalg.solve(basis.T, flat.T).T
    chosen: list[Tensor] = []
    for code in binary_vectors(space, weight.square() / weight.square().sum(), images):
        more = [*chosen, code]
        if torch.linalg.matrix_rank(torch.stack(more)) == len(more):
            chosen = more
        if len(chosen) == images:
            break
    else:
        return None
    rough = (space @ torch.stack(chosen).T).round().clamp(0, 1)
    weighted = flat * weight[:, None]
    best = torch.linalg.lstsq(weighted, rough * weight[:, None]).solution
    units = mixtures.new_zeros(images, len(factors), each.shape[1])
    units[:, used] = (flat @ best).round().clamp(0, 1).T.reshape(images, *each.shape[:2])
    return units
