"""Blends of two images and of their labels, as MixUp makes them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def beta_share(alpha: float, generator: torch.Generator) -> float:
    """Return a draw from Beta(alpha, alpha), which torch draws from no generator of one's own."""
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    return float(np.random.default_rng(seed).beta(alpha, alpha))


def blended(
    images: Tensor, targets: Tensor, alpha: float, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the blends of a mini-batch, their targets, and each one's partner.

    x = l x_i + (1 - l) x_j and y alike, with one l and one shuffle a mini-batch (Zhang et al.,
    "mixup: beyond empirical risk minimization", ICLR 2018).

    Parameters
    ----------
    images, targets : Tensor
        (B, C, H, W) and (B, outputs), both floating point.
    alpha : float
        Of the Beta distribution of l, > 0.
    generator : torch.Generator
        Draws l, then the shuffle.
    """
    share = beta_share(alpha, generator)
    partner = torch.randperm(len(images), generator=generator)
    return (
        torch.lerp(images[partner], images, share),
        torch.lerp(targets[partner], targets, share),
        partner,
    )
