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
candidate's part, where nothing else is known of it."""

BLOCK = 1024
"""Equations whose products are added in float32."""

MAX_FLOAT64 = 1e10
"""Multiplications up to which all is done in float64: about a second."""


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
    chi_square : float
        Mean square of what is left, in units of what may be left; above 1 the model leaves more
        than was thought, as where members are missing among the candidates.
    """

    share: Tensor
    deviation: Tensor
    resolution: Tensor
    explained: Tensor
    doubt: Tensor
    chi_square: float

    @property
    def statistic(self) -> Tensor:
        """The estimate in units of its deviation, (N,)."""
        return self.share / self.deviation

    @property
    def expected(self) -> Tensor:
        """Expectation of :attr:`statistic` for a member, (N,)."""
        return self.resolution / self.deviation


CHUNKS = 8
"""Of rows, whose products with those before them are known."""


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
    mean = features.sum(1)
    found = [mean]
    if features.shape[1] > 1 and most:
        apart, axes = _changes(features, most)
        found += list(spread * (axes.mT @ apart).transpose(0, 1))
    return torch.stack(found)


def left_out(features: Tensor, spread: float, most: int = DIRECTIONS) -> Tensor:
    """Return how images' parts change beside :func:`directions`, (N, T, P)."""
    apart, axes = _changes(features, most)
    return spread * (apart - axes @ (axes.mT @ apart))


def _changes(features: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Return how parts at points lie off their mean, and the main axes of that, (N, T, D)."""
    points = features.shape[1]
    apart = points * features - features.sum(1, keepdim=True)
    _, axes = torch.linalg.eigh((apart @ apart.mT).double())
    return apart, axes[:, :, points - min(most, points - 1) :].to(apart)


def regress(
    data: Tensor,
    candidates: Tensor,
    background: Tensor,
    *,
    noise: Tensor | None = None,
    misfit: float | Tensor = MISFIT,
    shared: Tensor | None = None,
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
    misfit : float or Tensor
        See :data:`MISFIT`; (P,) where it differs between equations. Known noise comes on top.
    shared : Tensor, optional
        (R, P), by which the model may be off as a whole: one standard deviation each.
    """
    return Equations(data, candidates, background, noise, misfit, shared).fit()


class Equations:
    """The equations of an update, in units of what may be left of each.

    Parameters
    ----------
    data, candidates, background, noise, misfit, shared
        As of :func:`regress`.
    """

    def __init__(
        self,
        data: Tensor,
        candidates: Tensor,
        background: Tensor,
        noise: Tensor | None,
        misfit: float | Tensor,
        shared: Tensor | None,
    ) -> None:
        self.count = candidates.shape[1]
        size = candidates[0].square().sum(1).mean()
        self.unexplained = misfit * size * torch.ones_like(data)
        variance = self.unexplained if noise is None else self.unexplained + noise.square()
        self.weights = variance.rsqrt()
        rows = [candidates.flatten(0, 1), BACKGROUND * background.flatten(0, 1)]
        self.rows = torch.cat(rows if shared is None else [*rows, shared]) * self.weights
        self.told = data * self.weights
        self.gram = _own_products(self.rows)
        self.right = _products(self.rows, self.told[None])[:, 0]
        self.prior_variance = (self.rows.norm(dim=0) / self.weights).square()

    def fit(self, times: float = 1.0) -> Fit:
        """Return what they say if variances are so many times what was thought.

        Parameters
        ----------
        times : float
            Where no noise is known; with noise 1.

        Raises
        ------
        torch.linalg.LinAlgError
            Where sums of float32 are too coarse for so little noise.
        """
        gram = self.gram / times
        prior = float(gram.trace())
        gram.diagonal().add_(1)
        factor = torch.linalg.cholesky(gram)
        del gram  # there is memory for few of them
        inverse = torch.cholesky_inverse(factor)
        del factor
        own = inverse[: self.count]
        diagonal = own.diagonal()
        variance = diagonal - torch.linalg.vector_norm(own, dim=1).square()
        if bool((variance < 0).any()):
            raise torch.linalg.LinAlgError("the products of the rows are too coarse")
        determined = len(inverse) - float(inverse.trace())
        shares = inverse @ (self.right / times)
        fitted = shares.to(self.rows) @ self.rows
        # Of the prior variance of the data, as much is left in each entry as on average.
        left = determined / max(prior, 1e-300)
        left_over = float((self.told - fitted).double().square().sum()) / times
        return Fit(
            share=shares[: self.count],
            deviation=variance.clamp_min(1e-300).sqrt(),
            resolution=(1 - diagonal).clamp(1e-9, 1),
            explained=fitted / self.weights,
            doubt=(left * self.prior_variance + times * self.unexplained).sqrt(),
            chi_square=left_over / max(1.0, len(self.told) - determined),
        )


def _own_products(rows: Tensor) -> Tensor:
    """Return the inner products of rows (n, P) with each other, (n, n): of each pair once."""
    whole = rows.new_empty(len(rows), len(rows), dtype=torch.float64)
    at = 0
    for chunk in rows.tensor_split(CHUNKS):
        end = at + len(chunk)
        whole[at:end, at:] = _products(chunk, rows[at:])
        whole[end:, at:end] = whole[at:end, end:].T
        at = end
    return whole


def _products(rows: Tensor, others: Tensor) -> Tensor:
    """Return the inner products of rows (n, P) and (m, P), (n, m), float64.

    The smallest eigenvalues tell candidates apart, and float32 sums are too coarse for them. Where
    float64 would take long, sums of blocks are added in it.
    """
    if len(rows) * others.numel() <= MAX_FLOAT64:
        return rows.double() @ others.double().T
    total = rows.new_zeros(len(rows), len(others), dtype=torch.float64)
    for left, right in zip(rows.split(BLOCK, 1), others.split(BLOCK, 1), strict=True):
        total += left @ right.T
    return total
