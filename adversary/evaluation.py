"""Scoring: the one place that sees both a reconstruction and the truth."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


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
    """

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]
