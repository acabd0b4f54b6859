"""What is public about X-rays: never the victims' split."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Prior:
    """Public X-rays and their mean.

    Parameters
    ----------
    images : Tensor
        (N, C, H, W) in [0, 1], N >= 1; none of them a patient under attack.
    """

    images: Tensor

    @property
    def mean(self) -> Tensor:
        """Mean public X-ray, (1, C, H, W)."""
        return self.images.mean(dim=0, keepdim=True)


def total_variation(images: Tensor) -> Tensor:
    """Return the anisotropic total variation per pixel, one value an image batch.

    Parameters
    ----------
    images : Tensor
        (..., B, C, H, W).

    Returns
    -------
    Tensor
        (...), mean of |dx| plus mean of |dy| (Rudin, Osher and Fatemi 1992).
    """
    dims = (-4, -3, -2, -1)
    dx = (images[..., :, 1:] - images[..., :, :-1]).abs().mean(dims)
    dy = (images[..., 1:, :] - images[..., :-1, :]).abs().mean(dims)
    return torch.add(dx, dy)
