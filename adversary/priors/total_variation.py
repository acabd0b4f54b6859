"""Total variation of images."""

from __future__ import annotations

import torch
from torch import Tensor


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
