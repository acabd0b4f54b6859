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

from adversary.common.banded import Banded

Indices = npt.NDArray[np.int64]

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

    @property
    def half_width(self) -> int:
        """Largest distance of two pixels that an output sees together, in the flat image."""
        return max(int(pixels[-1] - pixels[0]) for _, _, pixels in self._groups)

    def normal(self, image: Tensor, weights: Tensor) -> Banded:
        """Return J^T diag(w)^2 J at an image, (n, n), of w, (m,), in float64 on the CPU.

        By dense products of the outputs that see the same window.
        """
        told = (self._told(image).double() * weights).cpu()
        found = Banded.zeros(self._shape[1], self.half_width)
        for outputs, colours, pixels in self._groups:
            seen = told[colours[:, None], outputs]
            found.add(pixels, (seen @ seen.T).numpy())
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
    def _groups(self) -> list[tuple[Tensor, Tensor, Indices]]:
        """Outputs that see the same window, with its pixels, in their order, and their tangents."""
        windows, group = torch.cat(self._windowed).unique(dim=1, return_inverse=True)
        pixels = torch.arange(self._shape[1]).view(self._tangents.shape[2:])
        found = []
        for place, (c0, h0, w0, c1, h1, w1) in enumerate(windows.T.tolist()):
            if c1 >= 0:
                seen = pixels[c0 : c1 + 1, h0 : h1 + 1, w0 : w1 + 1].flatten()
                outputs = (group == place).nonzero()[:, 0]
                found.append((outputs, self._colours[seen], seen.numpy()))
        return found

    @torch.no_grad()
    def _windows(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first and last channel, row and column that each output sees, (3, m) each.

        Of each axis by itself: what is spoilt in one slice spoils the outputs that see some of it.
        """
        first, last = [], []
        for axis, size in enumerate(image.shape[1:], start=1):
            seen = []
            for part in torch.arange(size, device=image.device).split(_images_per_chunk(image)):
                spoilt = image.expand(len(part), *image.shape[1:]).clone()
                spoilt.movedim(axis, 1)[torch.arange(len(part)), part] = torch.nan
                seen.append(self.function(spoilt).flatten(1).isnan())
            depends = torch.cat(seen).cpu()
            place = torch.arange(size)[:, None]
            first.append(torch.where(depends, place, image.numel()).amin(0))
            last.append(torch.where(depends, place, -1).amax(0))
        return torch.stack(first), torch.stack(last)


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
