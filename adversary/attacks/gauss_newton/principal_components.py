"""The update as equations in the few coordinates in which X-rays differ most."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import vmap

from adversary.common.seeding import generator
from adversary.optim.quadratic_models import symmetric_product
from adversary.priors.gaussian import GaussianPrior
from adversary.problem.residuals import COLUMNS_PER_CHUNK, Residuals

NOISE_SAMPLES = 720, 180
"""Of the prior, from which the noise is learned; those that tell what the first did not show."""

MIN_RELATIVE_VARIANCE = 1e-2
"""Variance of a direction of the noise, relative to the rest's, below which it is dropped."""


class TruncationNoise:
    """Normal noise of covariance f (W^T W + t I): strong directions, and the same in all others.

    Parameters
    ----------
    strong : Tensor
        W, (s, m).
    further : Tensor
        (d, m), samples of the noise: t is what lies outside the rows of W.
    inflation : float
        f, > 0.
    """

    def __init__(self, strong: Tensor, further: Tensor, inflation: float = 1.0) -> None:
        values, left = torch.linalg.eigh(symmetric_product(strong, 16 * COLUMNS_PER_CHUNK))
        kept = values > values.max() * 1e-14
        values, basis = values[kept], (strong.T @ left[:, kept]) / values[kept].sqrt()
        outside = further - (further @ basis) @ basis.T
        self.rest = 1 + float(outside.square().mean())
        kept = values > MIN_RELATIVE_VARIANCE * self.rest
        self.inflation = inflation
        self._basis = basis[:, kept].contiguous()
        self._shares = (1 + values[kept] / self.rest).rsqrt() - 1

    def whiten(self, vectors: Tensor) -> Tensor:
        """Return rows (..., m) times the covariance to the power -1/2."""
        strong = ((vectors @ self._basis) * self._shares) @ self._basis.T
        return (vectors + strong) / (self.inflation * self.rest) ** 0.5


class SubspaceResiduals:
    """z -> residuals, (m,), of images with only the leading coordinates z, (B, 1, 1, k).

    What the other coordinates add is taken for noise (Bayesian approximation error, Kaipio and
    Somersalo, "Statistical and Computational Inverse Problems" 2005, section 5.8): to first order
    that of their normal distribution, beyond that of draws. Coordinates are principal components in
    standard deviations. The interface is that of :class:`~adversary.problem.residuals.Residuals`,
    for :class:`adversary.optim.levenberg_marquardt.LevenbergMarquardt`.

    Parameters
    ----------
    equations : Residuals
        Of B images.
    prior : GaussianPrior
        Of each of them.
    count : int
        k, the number of coordinates.
    inflation : float
        Of the variance of the noise: the normal distribution has lighter tails than X-rays.
    draws : tuple of int
        Draws that tell strong directions of the noise, and those that tell its level elsewhere.
    seed : int
        Of the draws.
    """

    def __init__(
        self,
        equations: Residuals,
        prior: GaussianPrior,
        count: int,
        *,
        inflation: float = 1.0,
        draws: tuple[int, int] = NOISE_SAMPLES,
        seed: int = 0,
    ) -> None:
        self.equations = equations
        self.batch = len(equations.targets)
        self.mean = prior.mean
        values, vectors = torch.linalg.eigh(prior.covariance())
        basis = (vectors * values.clamp(min=0).sqrt()).T.flip(0)
        self.basis, self._others = basis[:count].contiguous(), basis[count:].contiguous()
        self.noise = self._learned(inflation, draws, seed)

    def images(self, coordinates: Tensor, others: Tensor | None = None) -> Tensor:
        """Return the images, (B, C, H, W), with other coordinates zero or as given, (B, n - k)."""
        flat = coordinates.flatten(1) @ self.basis
        if others is not None:
            flat = flat + others @ self._others
        return self.mean + flat.view(len(flat), *self.mean.shape[1:])

    def __call__(self, coordinates: Tensor) -> Tensor:
        """Return the residuals in standard deviations of the noise, (m,)."""
        return self.noise.whiten(self.equations(self.images(coordinates)))

    def __len__(self) -> int:
        """Return m, the number of equations."""
        return len(self.equations)

    def rows(self, coordinates: Tensor, chunk: int = COLUMNS_PER_CHUNK) -> Tensor:
        """Return the transposed Jacobian, (B k, m)."""
        images = self.images(coordinates)
        each = [self.equations.along(images, i, self.basis, chunk) for i in range(self.batch)]
        return self.noise.whiten(torch.cat(each))

    def bend(self, coordinates: Tensor, tangent: Tensor) -> Tensor:
        """Return the second derivative along v, (m,), of (B, 1, 1, k)."""
        tangent = self.images(tangent) - self.mean
        return self.noise.whiten(self.equations.bend(self.images(coordinates), tangent))

    def pullback(self, coordinates: Tensor) -> Callable[[Tensor], Tensor]:
        """Return u -> J^T u, from (m,) to (B k,)."""
        pull = self.equations.pullback(self.images(coordinates))
        return lambda cotangent: (
            pull(self.noise.whiten(cotangent)).view(self.batch, -1) @ self.basis.T
        ).flatten()

    def filled(self, coordinates: Tensor) -> Tensor:
        """Return images, (B, C, H, W), with the other coordinates most probable to first order."""
        told = self.noise.inflation * self.noise.whiten(self(coordinates))
        mean = self.mean.repeat(self.batch, 1, 1, 1)
        others = self.equations.pullback(mean)(told).view(self.batch, -1) @ self._others.T
        return self.images(coordinates, -others)

    def _learned(self, inflation: float, draws: tuple[int, int], seed: int) -> TruncationNoise:
        """Return the noise of the other coordinates."""
        mean = self.mean.repeat(self.batch, 1, 1, 1)

        def beyond(leading: Tensor, others: Tensor) -> Tensor:
            """Return what the other coordinates add beyond first order."""
            without, images = self.images(leading), self.images(leading, others)
            linear = self.equations.forward(mean, images - without)
            return self.equations(images) - self.equations(without) - linear

        draw = generator(seed, "few coordinates")
        leading, others = (
            torch.randn(sum(draws), self.batch, len(basis), generator=draw).to(basis)
            for basis in (self.basis, self._others)
        )
        parts = zip(
            leading.split(COLUMNS_PER_CHUNK // 4), others.split(COLUMNS_PER_CHUNK // 4), strict=True
        )
        found = torch.cat([vmap(beyond)(*part) for part in parts])
        found = found - found.mean(0)
        first = [
            self.equations.along(mean, i, self._others) * count**0.5
            for i, count in self._distinct()
        ]
        strong = torch.cat([*first, found[: draws[0]] / draws[0] ** 0.5])
        return TruncationNoise(strong, found[draws[0] :], inflation)

    def _distinct(self) -> list[tuple[int, int]]:
        """Return an image of each label, and how many share its derivatives at the mean."""
        if not self.equations.separable:
            return [(i, 1) for i in range(self.batch)]
        rows = [tuple(row) for row in self.equations.targets.reshape(self.batch, -1).tolist()]
        return [(rows.index(row), rows.count(row)) for row in dict.fromkeys(rows)]
