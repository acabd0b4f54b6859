r"""The most probable images with given encodings, under a Gaussian prior of smooth images.

Natural images and X-rays have a power spectrum that falls with a power of the frequency (Field
1987). As a prior that is a Gaussian N(x0, P), and with encodings h = f(x) + noise the most
probable image has a closed form where f is linear:

    x = x0 + P J^T (J P J^T + sigma^2 I)^-1 (h - f(x0)),    J = df/dx at x0.

Encoders of sigmoids are nearly linear, so a few rounds with the one Jacobian (the chord method)
settle what is not, without a step size, and reach the directions of small singular values that
take gradient descent thousands of steps.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from adversary.priors.gaussian import GaussianPrior

VARIANCE = 0.06
"""Of a pixel in [0, 1] about grey, before anything is known."""

CHANNEL_CORRELATION = 0.95
"""Between the colours of one pixel."""

DECAY = 3
"""Power of the spatial frequency by which the power spectrum falls."""


MODES = 1024
"""Half waves with a variance of their own in :func:`smooth_prior`."""

OWN_VARIANCE = 1e-6
"""Least variance of a pixel that it shares with no other, of one grey level in 256 or less."""


def smooth_covariance(images: Tensor) -> Tensor:
    """Return P x: the prior covariance of images applied to images.

    Diagonal in the discrete cosine transform, which mirrors at the borders, with the variance
    1/(1 + k^2 + l^2)^(3/2) at k and l half waves a side.

    Parameters
    ----------
    images : Tensor
        (..., C, H, W).

    Returns
    -------
    Tensor
        (..., C, H, W).
    """
    rows, columns = (_cosines(n).to(images) for n in images.shape[-2:])
    spectrum = _spectrum(*images.shape[-2:]).to(images)
    smooth = rows.T @ (spectrum * (rows @ images @ columns.T)) @ columns
    together = CHANNEL_CORRELATION * smooth.sum(-3, keepdim=True)
    return (1 - CHANNEL_CORRELATION) * smooth + together


def smooth_prior(shape: tuple[int, int, int]) -> GaussianPrior:
    """Return the distribution with :func:`smooth_covariance` about grey, for images (C, H, W).

    Written out for its :data:`MODES` largest variances, with the mean of the rest on every pixel.
    """
    channels, height, width = shape
    rows, columns = _cosines(height), _cosines(width)
    alike = torch.full((channels, channels), CHANNEL_CORRELATION, dtype=torch.float64)
    own, mixtures = torch.linalg.eigh(alike + (1 - CHANNEL_CORRELATION) * torch.eye(channels))
    variances = own[:, None, None] * _spectrum(height, width)
    kept, places = variances.flatten().topk(min(MODES, variances.numel()))
    c, k, l = torch.unravel_index(places, variances.shape)  # noqa: E741
    waves = torch.einsum("mc,mh,mw->mchw", mixtures.T[c], rows[k], columns[l]).flatten(1)
    pixels = channels * height * width
    rest = float(variances.sum() - kept.sum()) / pixels
    return GaussianPrior(
        torch.full((1, *shape), 0.5, dtype=torch.float64),
        kept.sqrt()[:, None] * waves,
        torch.full((pixels,), max(rest, OWN_VARIANCE), dtype=torch.float64),
    )


def _spectrum(height: int, width: int) -> Tensor:
    """Return the variance of each pair of half waves, (height, width), mean VARIANCE."""
    k, l = (torch.arange(n, dtype=torch.float64).square() for n in (height, width))  # noqa: E741
    spectrum = (1 + k[:, None] + l).pow(-DECAY / 2)
    return VARIANCE * spectrum / spectrum.mean()


def _cosines(n: int) -> Tensor:
    """Return the orthonormal discrete cosine transform (type II) as a matrix, (n, n)."""
    k = torch.arange(n, dtype=torch.float64)
    waves = torch.cos(math.pi / n * k[:, None] * (k + 0.5)) * math.sqrt(2 / n)
    waves[0] /= math.sqrt(2)
    return waves
