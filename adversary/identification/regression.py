r"""A joint regression of an update on all images that may be in it.

The model is d = sum_i z_i (s_i + sum_t u_it v_it) + noise: z_i says how much of candidate i is in
it (1 for a member, 0 for anyone else), s_i is what it adds on average over the path, and v_it what
it adds beyond that if its step was at point t. Background X-rays are in the model too, with a wide
prior each: they take up what all X-rays share. With normal priors for z and u this is a ridge
regression with random effects; BLUP in statistics (Robinson, "That BLUP is a good thing", 1991).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

DIRECTIONS = 1
"""Directions kept, of each image, in which its part changes along the path."""

BACKGROUND = 3.0
"""Prior standard deviation of background X-rays' shares, over that of the candidates."""

MISFIT = 1e-3
"""Variance of what the model leaves unexplained in an equation, over the mean square norm of a
candidate's part; known noise comes on top."""


@dataclass(frozen=True, eq=False)
class Fit:
    """What an update says of each candidate.

    Parameters
    ----------
    share : Tensor
        (N,), the estimate of z, shrunk towards 0.
    deviation : Tensor
        (N,), its standard deviation for someone who is not in it, if the model's noise is right.
    resolution : Tensor
        (N,), its expectation for a member, in [0, 1].
    explained, doubt : Tensor
        (P,), what the data are expected to be, and with which standard deviation about.
    """

    share: Tensor
    deviation: Tensor
    resolution: Tensor
    explained: Tensor
    doubt: Tensor

    @property
    def statistic(self) -> Tensor:
        """The estimate in units of its deviation, (N,)."""
        return self.share / self.deviation

    @property
    def expected(self) -> Tensor:
        """Expectation of :attr:`statistic` for a member, (N,)."""
        return self.resolution / self.deviation


def directions(features: Tensor, spread: float, most: int = DIRECTIONS) -> Tensor:
    """Return each image's mean part, and the main directions in which it changes.

    Parameters
    ----------
    features : Tensor
        (N, T, P), what an image adds at each point; its sum over points is the mean part.
    spread : float
        Standard deviation of the weight of a point, where the mean part has weight 1: for one
        step at an unknown point T^(-1/2).
    most : int
        Directions at most.

    Returns
    -------
    Tensor
        (1 + D, N, P), of which the first is the mean part; D <= min(most, T - 1).
    """
    points = features.shape[1]
    mean = features.sum(1)
    found = [mean]
    if points > 1 and most:
        apart = points * features - mean[:, None]
        _, axes = torch.linalg.eigh((apart @ apart.mT).double())
        kept = axes[:, :, -min(most, points - 1) :].to(apart)
        found += list(spread * (kept.mT @ apart).transpose(0, 1))
    return torch.stack(found)


def regress(
    data: Tensor,
    candidates: Tensor,
    background: Tensor,
    *,
    noise: Tensor | None = None,
    misfit: float = MISFIT,
) -> Fit:
    """Return what the data say of each candidate.

    Parameters
    ----------
    data : Tensor
        (P,).
    candidates, background : Tensor
        (1 + D, N, P) and (1 + D', M, P), of :func:`directions`; M may be 0.
    noise : Tensor, optional
        (P,), standard deviations of known noise on the data.
    misfit : float
        See :data:`MISFIT`.
    """
    count = candidates.shape[1]
    unexplained = misfit * float(candidates[0].square().sum(1).mean())
    weights = torch.ones_like(data)
    if noise is not None:
        weights = (unexplained / (unexplained + noise.square())).sqrt()
    rows = torch.cat([candidates.flatten(0, 1), BACKGROUND * background.flatten(0, 1)])
    rows, data = rows * weights, data * weights
    # In float64 from here: the smallest eigenvalues are those that tell candidates apart.
    gram, right = (rows @ rows.T).double(), (rows @ data).double()
    prior = float(gram.trace())
    gram.diagonal().add_(unexplained)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
    # Of the prior variance of the data, as much is left in each entry as on average.
    left = unexplained * (len(rows) - unexplained * float(inverse.trace())) / max(prior, 1e-300)
    shares = inverse @ right
    explained = (shares.to(rows) @ rows) / weights
    doubt = (left * (rows.norm(dim=0) / weights).square() + unexplained).sqrt()
    own = inverse[:count]
    diagonal = own.diagonal()
    variance = unexplained * (diagonal - unexplained * own.square().sum(1))
    return Fit(
        share=shares[:count],
        deviation=variance.clamp_min(1e-300).sqrt(),
        resolution=(1 - unexplained * diagonal).clamp(1e-9, 1),
        explained=explained,
        doubt=doubt,
    )
