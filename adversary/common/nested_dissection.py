"""Sparse symmetric matrices on the pixels of an image, factorised by nested dissection.

The matrix is a sum of dense blocks, each of pixels that lie close together, as finite elements
give them. An image is cut by a strip of tiles so wide that no block reaches across, its halves are
cut in the same way, and Cholesky's factor is worked out from the smallest parts up, each by dense
operations on its own pixels and those around it (George 1973; multifrontal, Duff and Reid 1983):
of n pixels in O(n^1.5) operations and O(n log n) memory, where a band takes O(n^2) and O(n^1.5).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from scipy.sparse import csr_array
from torch import Tensor

LEAF_TILES = 4
"""Tiles of a part that is cut no further."""

Box = tuple[int, int, int, int]
"""First and last row and column, both inclusive."""


@dataclass(frozen=True)
class _Front:
    """A step of the elimination: pixels to eliminate, and those around that are left.

    Parameters
    ----------
    own, border : Tensor
        Pixels, (k,) and (b,).
    blocks : list of int
        Numbers of the blocks that are added here.
    children : list of int
        Numbers of the fronts whose remainders are.
    """

    own: Tensor
    border: Tensor
    blocks: list[int]
    children: list[int]


class Dissection:
    """The order in which the pixels of an image are eliminated.

    Parameters
    ----------
    shape : tuple of int
        (C, H, W).
    blocks : sequence of Tensor
        Pixels, (k,), of each block, as places in the flat image.
    """

    def __init__(self, shape: Sequence[int], blocks: Sequence[Tensor]) -> None:
        self.blocks = list(blocks)
        self.size = math.prod(shape)
        boxes = [_box(block, *shape[1:]) for block in self.blocks]
        self._tile = _tile(boxes, max(shape[1:]))
        self._pixels = torch.arange(self.size).view(*shape)
        t = self._tile
        self._boxes: list[Box] = [(a // t, b // t, c // t, d // t) for a, b, c, d in boxes]
        self._rows, self._columns = (math.ceil(size / self._tile) for size in shape[1:])
        self.fronts: list[_Front] = []
        self._cut((0, self._rows - 1, 0, self._columns - 1), list(range(len(boxes))))

    @property
    def entries(self) -> int:
        """Values of the factor."""
        return sum(len(f.own) * (len(f.own) + len(f.border)) for f in self.fronts)

    def _cut(self, part: Box, blocks: list[int]) -> int:
        """Add the fronts of a part, and return the number of the last."""
        top, bottom, left, right = part
        height, width = bottom - top + 1, right - left + 1
        own, children = part, []
        if height * width > LEAF_TILES:
            if height >= width:
                at = (top + bottom) // 2
                own, halves = (at, at, left, right), [(top, at - 1, left, right)]
                halves += [(at + 1, bottom, left, right)]
            else:
                at = (left + right) // 2
                own, halves = (top, bottom, at, at), [(top, bottom, left, at - 1)]
                halves += [(top, bottom, at + 1, right)]
            for half in halves:
                inside = [i for i in blocks if _meet(self._boxes[i], half)]
                children.append(self._cut(half, inside))
                blocks = [i for i in blocks if not _meet(self._boxes[i], half)]
        self.fronts.append(_Front(self._within([own]), self._around(part), blocks, children))
        return len(self.fronts) - 1

    def _within(self, boxes: Sequence[Box]) -> Tensor:
        """Return the pixels of boxes of tiles."""
        t = self._tile
        parts = [
            self._pixels[:, top * t : (bottom + 1) * t, left * t : (right + 1) * t].flatten()
            for top, bottom, left, right in boxes
        ]
        return torch.cat(parts) if parts else self._pixels.new_zeros(0)

    def _around(self, part: Box) -> Tensor:
        """Return the pixels of the tiles next to a part."""
        top, bottom, left, right = part
        first, last = max(left - 1, 0), min(right + 1, self._columns - 1)
        boxes = [(row, row, first, last) for row in (top - 1, bottom + 1) if 0 <= row < self._rows]
        boxes += [(top, bottom, c, c) for c in (left - 1, right + 1) if 0 <= c < self._columns]
        return self._within(boxes)


@dataclass(frozen=True)
class BlockSum:
    """A symmetric matrix A, (n, n), that is a sum of dense blocks.

    Parameters
    ----------
    dissection : Dissection
        Where the blocks lie.
    blocks : list of Tensor
        (k, k) each, in the precision in which the factor is worked out.
    """

    dissection: Dissection
    blocks: list[Tensor]

    def matvec(self, vector: Tensor) -> Tensor:
        """Return A v, (n,)."""
        found = torch.zeros_like(vector)
        for places, block in zip(self.dissection.blocks, self.blocks, strict=True):
            found[places] += block.to(vector) @ vector[places]
        return found

    def factor(self, scale: float, other: csr_array, other_scale: float) -> Factor | None:
        """Return the factor of ``scale`` A + ``other_scale`` B; None where it has none.

        Parameters
        ----------
        scale : float
            Of A.
        other : csr_array
            B, (n, n), symmetric, whose entries lie within the reach of the blocks.
        other_scale : float
            Of B.
        """
        plan = self.dissection
        local = torch.full((plan.size,), -1)
        rests: dict[int, Tensor] = {}
        done = []
        for number, front in enumerate(plan.fronts):
            own = len(front.own)
            places = torch.cat([front.own, front.border])
            local[places] = torch.arange(len(places))
            matrix = self.blocks[0].new_zeros(len(places), len(places))
            for row, column, value in _entries(other, front.own, local):
                matrix[row, column] = other_scale * value.to(matrix)
            for i in front.blocks:
                at = local[plan.blocks[i]]
                matrix[at[:, None], at] += scale * self.blocks[i]
            for child in front.children:
                at = local[plan.fronts[child].border]
                matrix[at[:, None], at] += rests.pop(child)
            local[places] = -1
            lower, failed = torch.linalg.cholesky_ex(matrix[:own, :own])
            if int(failed):
                return None
            beside = torch.linalg.solve_triangular(lower, matrix[:own, own:], upper=False)
            rests[number] = matrix[own:, own:] - beside.T @ beside
            done.append((lower, beside))
        return Factor(plan, done)


class Factor:
    """Cholesky's factor of a matrix on the pixels of an image."""

    def __init__(self, plan: Dissection, done: list[tuple[Tensor, Tensor]]) -> None:
        self._plan = plan
        self._done = done

    def solve(self, right: Tensor) -> Tensor:
        """Return A^-1 b of (n,) or, column by column, (n, k)."""
        # in the factor's precision, which may overflow where the right-hand side's does not
        size = float(right.abs().max()) or 1.0
        x = (right / size).to(self._done[0][0]).view(len(right), -1).clone()
        steps = list(zip(self._plan.fronts, self._done, strict=True))
        for front, (lower, beside) in steps:
            part = torch.linalg.solve_triangular(lower, x[front.own], upper=False)
            x[front.own] = part
            x[front.border] -= beside.T @ part
        for front, (lower, beside) in reversed(steps):
            part = x[front.own] - beside @ x[front.border]
            x[front.own] = torch.linalg.solve_triangular(lower.T, part, upper=True)
        return size * x.view_as(right).to(right)


def _entries(
    matrix: csr_array, rows: Tensor, local: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield rows, columns and values, by their place in a front, of what it eliminates."""
    part = matrix[rows.numpy()].tocoo()
    column = local[torch.from_numpy(part.col).long()]
    left = column >= 0
    yield torch.from_numpy(part.row).long()[left], column[left], torch.from_numpy(part.data)[left]


def _box(pixels: Tensor, height: int, width: int) -> Box:
    """Return the rows and columns in which pixels lie."""
    row, column = pixels // width % height, pixels % width
    return int(row.min()), int(row.max()), int(column.min()), int(column.max())


def _tile(boxes: Sequence[Box], longest: int) -> int:
    """Return the least power of two for the side of tiles such that no box meets three in a row."""
    tile = 1
    while tile < longest and any(
        b // tile - a // tile > 1 or d // tile - c // tile > 1 for a, b, c, d in boxes
    ):
        tile *= 2
    return tile


def _meet(one: Box, other: Box) -> bool:
    return one[0] <= other[1] and other[0] <= one[1] and one[2] <= other[3] and other[2] <= one[3]
