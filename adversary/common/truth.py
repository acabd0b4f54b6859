"""The images a client really used: for scores and bounds, never for an attack."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Blends:
    """What the network saw in place of the images, where the client trained on blends of them.

    Parameters
    ----------
    images : Tensor
        (K, C, H, W) in [0, 1].
    labels : Tensor
        (K, C) or (K,), soft labels.
    sources : Tensor
        (K, 2), the images that each is a blend of, as indices into those of the :class:`Truth`.
    batches : tuple of tuple of Tensor
        As of the :class:`Truth`, of blends.
    """

    images: Tensor
    labels: Tensor
    sources: Tensor
    batches: tuple[tuple[Tensor, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The images a client really used in a round; never shown to an attack.

    Parameters
    ----------
    images : Tensor
        (B, C, H, W) in [0, 1].
    labels : Tensor
        (B,) class indices, or (B, C) multi-hot for sigmoid heads.
    names : tuple of str
        One name an image (a file name or an index).
    batches : tuple of tuple of Tensor
        By client in the update, the images of each of its steps of SGD, as indices (b,) into
        ``images``; empty where nothing is known but the recipe.
    blends : Blends, optional
        What the network saw in place of the images; None where it saw those.
    """

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]
    batches: tuple[tuple[Tensor, ...], ...] = ()
    blends: Blends | None = None
