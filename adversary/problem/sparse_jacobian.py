"""Jacobians of layers whose outputs see a window of the image each, in few evaluations.

Pixels that no output sees together share a tangent, and each output's entry tells the pixel that
it sees: as many tangents as a window has pixels, whatever the size of the image (Curtis, Powell
and Reid, "On the estimation of sparse Jacobian matrices", 1974).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import coo_array, csr_array
from torch import Tensor
from torch.func import jvp, vmap

from adversary.common.nested_dissection import BlockSum, Dissection

Indices = npt.NDArray[np.int64]

LEAST_PERIOD = 32
"""Slices of an image of which an output is first supposed to see half in a row at most."""

DOUBTED_SHARE = 0.9
"""Of the misfit, what the windows hold that are in doubt."""

PIXELS = 2**16
"""Of the tangents worked out together: convolutions of more fall out of a CPU's cache."""


class SparseJacobian:
    """The Jacobian of a function of one image, (m, n).

    Parameters
    ----------
    function : callable
        From (1, C, H, W) to (1, ...), such that what depends on a pixel becomes NaN with it.
    image : Tensor
        (1, C, H, W); its values do not matter.

    Attributes
    ----------
    function : callable
        The function.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], image: Tensor) -> None:
        self.function = function
        first, last = self._windows(image)
        span = (last - first + 1).clamp_min(1).amax(1).tolist()
        self._windowed = first, last
        self._colours = _window_offsets(image.shape[1:], span)
        tangents = torch.zeros(int(self._colours.max()) + 1, *image.shape[1:])
        tangents.flatten(1)[self._colours, torch.arange(len(self._colours))] = 1
        self._tangents = tangents[:, None].to(image)
        self._shape = first.shape[1], len(self._colours)
        self._entries = _entries(image.shape[1:], first, last, span)

    @property
    def tangents(self) -> int:
        """Tangents that are sent through the function, each at the cost of two values of it."""
        return len(self._tangents)

    @property
    def share(self) -> float:
        """Tangents for every pixel: 1 where some output sees the whole image."""
        return self.tangents / len(self._colours)

    def __call__(self, image: Tensor) -> csr_array:
        """Return the Jacobian at an image, (m, n), on the CPU."""
        colour, row, column = self._entries
        values = self._told(image).cpu().numpy()[colour, row]
        kept = values != 0
        return coo_array((values[kept], (row[kept], column[kept])), shape=self._shape).tocsr()

    @functools.cached_property
    def dissection(self) -> Dissection:
        """The order in which the normal equations are eliminated."""
        return Dissection(self._tangents.shape[2:], [pixels for _, _, pixels in self._groups])

    def normal(self, image: Tensor, weights: Tensor) -> BlockSum:
        """Return J^T diag(w)^2 J at an image, (n, n), of w, (m,), on the CPU.

        By dense products of the outputs that see the same window.
        """
        told = (self._told(image) * weights.to(image)).cpu()
        blocks = []
        for outputs, colours, _ in self._groups:
            seen = told[colours[:, None], outputs]
            blocks.append(seen @ seen.T)
        return BlockSum(self.dissection, blocks)

    def in_doubt(self, residual: Tensor) -> Tensor:
        """Return the pixels, (n,), of the windows that hold most of the misfit of outputs, (m,)."""
        misfit = torch.stack([residual[outputs].square().sum() for outputs, _, _ in self._groups])
        order = misfit.argsort(descending=True)
        before = misfit[order].cumsum(0) - misfit[order]
        found = torch.zeros(self._shape[1], dtype=torch.bool)
        for window in order[before < DOUBTED_SHARE * misfit.sum()].tolist():
            found[self._groups[window][2]] = True
        return found

    def _told(self, image: Tensor) -> Tensor:
        """Return the outputs' derivatives along all tangents, (tangents, m)."""
        return torch.cat(
            [
                vmap(lambda v: jvp(self.function, (image,), (v,))[1].flatten())(part)
                for part in self._tangents.split(_images_per_chunk(image))
            ]
        )

    @functools.cached_property
    def _groups(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Outputs that see the same window, their tangents, and the window's pixels in order."""
        windows, group, sizes = torch.cat(self._windowed).unique(
            dim=1, return_inverse=True, return_counts=True
        )
        pixels = torch.arange(self._shape[1]).view(self._tangents.shape[2:])
        found = []
        each = group.argsort(stable=True).split(sizes.tolist())
        for outputs, (c0, h0, w0, c1, h1, w1) in zip(each, windows.T.tolist(), strict=True):
            if c1 >= 0:
                seen = pixels[c0 : c1 + 1, h0 : h1 + 1, w0 : w1 + 1].flatten()
                found.append((outputs, self._colours[seen], seen))
        return found

    def _windows(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first and last channel, row and column that each output sees, (3, m) each."""
        each = [self._extent(image, axis) for axis in range(1, image.ndim)]
        return torch.stack([first for first, _ in each]), torch.stack([last for _, last in each])

    def _extent(self, image: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        """Return the first and last slice of an axis that each output sees, (m,) each."""
        size, period = image.shape[axis], LEAST_PERIOD
        while period < size:
            if (found := self._extent_by_period(image, axis, period)) is not None:
                return found
            period *= 2
        seen = self._seen(image, axis, list(torch.arange(size).split(1)))
        slices = torch.arange(size)[:, None]
        first = torch.where(seen, slices, image.numel()).amin(0)
        return first, torch.where(seen, slices, -1).amax(0)

    def _extent_by_period(
        self, image: Tensor, axis: int, period: int
    ) -> tuple[Tensor, Tensor] | None:
        """Return the same from fewer passes; None where some window is longer than half a period.

        Of slices a period apart an output sees one at most, and which one the strip of a period
        tells in which it lies.
        """
        every = torch.arange(image.shape[axis])
        rests = self._seen(image, axis, [every[i::period] for i in range(period)])
        strips = self._seen(image, axis, list(every.split(period)))
        start, length = _arcs(rests)
        strip = torch.arange(len(strips))[:, None]
        lowest = torch.where(strips, strip, len(strips)).amin(0)
        highest = torch.where(strips, strip, -1).amax(0)
        first = lowest * period + start
        last = first + length - 1
        seen = strips.any(0)
        if bool((seen & ((2 * length > period) | (last // period != highest))).any()):
            return None
        return torch.where(seen, first, image.numel()), torch.where(seen, last, -1)

    @torch.no_grad()
    def _seen(self, image: Tensor, axis: int, groups: list[Tensor]) -> Tensor:
        """Return which outputs depend on groups of slices of an axis, (groups, m)."""
        found = []
        chunk = _images_per_chunk(image)
        for begin in range(0, len(groups), chunk):
            part = groups[begin : begin + chunk]
            spoilt = image.expand(len(part), *image.shape[1:]).clone()
            for one, group in zip(spoilt, part, strict=True):
                one.index_fill_(axis - 1, group.to(image.device), torch.nan)
            found.append(self.function(spoilt).flatten(1).isnan().cpu())
        return torch.cat(found)


def _arcs(seen: Tensor) -> tuple[Tensor, Tensor]:
    """Return first place and length of the shortest arc of a circle that holds all that is seen.

    Of each column of (places, m).
    """
    size = len(seen)
    places = torch.arange(2 * size)[:, None]
    latest = torch.where(seen.repeat(2, 1), places, -1).cummax(0).values
    gap = torch.where(seen, places[size:] - latest[size - 1 : -1], 0)
    length, first = gap.max(0)
    return first, size - length + 1


def _images_per_chunk(image: Tensor) -> int:
    """Return how many images to work on together."""
    return max(1, PIXELS // image.numel())


def _window_offsets(shape: torch.Size, span: list[int]) -> Tensor:
    """Return each pixel's place in a window, (n,), as one number."""
    axes = [torch.arange(size) % least for size, least in zip(shape, span, strict=True)]
    channel, row, column = torch.meshgrid(*axes, indexing="ij")
    return ((channel * span[1] + row) * span[2] + column).flatten()


def _entries(
    shape: torch.Size, first: Tensor, last: Tensor, span: list[int]
) -> tuple[Indices, Indices, Indices]:
    """Return tangent, output and pixel of all entries that may be other than 0."""
    seen: list[Tensor] = []
    for axis, least in enumerate(span):
        residue = torch.arange(least)[:, None]
        at = first[axis] + (residue - first[axis]) % least
        seen.append(torch.where(at <= last[axis], at, -1))  # (span, m)
    channel, row, column = seen[0][:, None, None], seen[1][None, :, None], seen[2][None, None]
    pixel = (channel * shape[1] + row) * shape[2] + column
    inside = (channel >= 0) & (row >= 0) & (column >= 0)
    pixel, inside = pixel.flatten(0, 2), inside.flatten(0, 2)
    tangent, output = inside.nonzero(as_tuple=True)
    return tangent.numpy(), output.numpy(), pixel[inside].numpy()
