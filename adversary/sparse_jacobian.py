"""Jacobians of layers whose outputs see a window of the image each, in few evaluations.

Pixels that no output sees together share a tangent, and each output's entry tells the pixel that
it sees: as many tangents as a window has pixels, whatever the size of the image (Curtis, Powell
and Reid, "On the estimation of sparse Jacobian matrices", 1974).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import coo_array, csr_array
from torch import Tensor
from torch.func import jvp, vmap

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
        self._colours = _residues(image.shape[1:], span)
        tangents = torch.zeros(int(self._colours.max()) + 1, *image.shape[1:])
        tangents.flatten(1)[self._colours, torch.arange(len(self._colours))] = 1
        self._tangents = tangents[:, None].to(image)
        self._shape = first.shape[1], len(self._colours)
        self._entries = _entries(image.shape[1:], first, last, span)

    @property
    def share(self) -> float:
        """Tangents for every pixel: 1 where some output sees the whole image."""
        return len(self._tangents) / len(self._colours)

    def __call__(self, image: Tensor) -> csr_array:
        """Return the Jacobian at an image, (m, n), on the CPU."""
        told = torch.cat(
            [
                vmap(lambda v: jvp(self.function, (image,), (v,))[1].flatten())(part)
                for part in self._tangents.split(_chunk(image))
            ]
        )
        colour, row, column = self._entries
        values = told.cpu().numpy()[colour, row]
        kept = values != 0
        return coo_array((values[kept], (row[kept], column[kept])), shape=self._shape).tocsr()

    @torch.no_grad()
    def _windows(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first and last channel, row and column that each output sees, (3, m) each."""
        pixels = torch.tensor(list(np.ndindex(*image.shape[1:])), device=image.device)
        first = last = None
        for part in torch.arange(len(pixels), device=image.device).split(_chunk(image)):
            spoilt = image.expand(len(part), *image.shape[1:]).clone()
            spoilt.flatten(1)[torch.arange(len(part)), part] = torch.nan
            seen = self.function(spoilt).flatten(1).isnan()
            if first is None or last is None:
                first = torch.full((3, seen.shape[1]), len(pixels)).to(part)
                last = torch.full_like(first, -1)
            for place, depends in zip(pixels[part], seen, strict=True):
                at = place[:, None]
                first = torch.where(depends, first.minimum(at), first)
                last = torch.where(depends, last.maximum(at), last)
        assert first is not None
        assert last is not None
        return first.cpu(), last.cpu()


def _chunk(image: Tensor) -> int:
    """Return how many images to work on together."""
    return max(1, PIXELS // image.numel())


def _residues(shape: torch.Size, span: list[int]) -> Tensor:
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
