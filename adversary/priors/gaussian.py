"""What is public about X-rays: never the victims' split."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from adversary.common.errors import UserError
from adversary.common.files import atomic_write
from adversary.priors.covariance import shrunk_covariance

EXACT, RANK = 1024, 512
"""Values of an image up to which all principal components are kept, and how many beyond."""

FACTOR_VALUES, MIN_RANK = 2**25, 64
"""Values of all components together at most, and components that are kept all the same."""


class PriorError(UserError, ValueError):
    """A prior that cannot be learned or read; one line."""


@dataclass(frozen=True, eq=False)
class GaussianPrior:
    """Normal distribution of one X-ray, of mean m and covariance F^T F + diag(d).

    All vectors are flat images of n = C H W values in [0, 1].

    Parameters
    ----------
    mean : Tensor
        (1, C, H, W).
    factor : Tensor
        F, (k, n).
    diagonal : Tensor
        d, (n,), > 0.
    """

    mean: Tensor
    factor: Tensor
    diagonal: Tensor

    @classmethod
    def fit(cls, images: Tensor, *, rank: int | None = None, seed: int = 0) -> GaussianPrior:
        """Learn the distribution of public X-rays, however few they are.

        See :func:`adversary.priors.covariance.shrunk_covariance` for the model.

        Parameters
        ----------
        images : Tensor
            (N, C, H, W), N >= 1.
        rank : int, optional
            Principal components to keep, >= 1; by default all of images of up to
            :data:`EXACT` values, and :data:`RANK` of larger ones, fewer where those would take
            more memory than :data:`FACTOR_VALUES`.
        seed : int
            Of the search for the components where ``rank < n``.

        Returns
        -------
        GaussianPrior
            In float64 on the CPU.

        Raises
        ------
        PriorError
            If there is no image, or the rank is not positive.
        """
        if images.ndim != 4 or not images.numel():
            raise PriorError(f"public X-rays of shape {tuple(images.shape)}: need (N, C, H, W)")
        if rank is None:
            values = images[0].numel()
            fitting = max(MIN_RANK, FACTOR_VALUES // values)
            rank = EXACT if values <= EXACT else min(RANK, fitting)
        if rank < 1:
            raise PriorError(f"rank = {rank}: must be >= 1")
        mean, factor, diagonal = shrunk_covariance(
            images.detach().double().cpu().numpy(), rank, seed
        )
        return cls(torch.from_numpy(mean[None]), *map(torch.from_numpy, (factor, diagonal)))

    @property
    def size(self) -> int:
        """n, the number of values of an image."""
        return self.diagonal.numel()

    @property
    def variance(self) -> Tensor:
        """Variance of each value, (n,)."""
        return self.factor.square().sum(0) + self.diagonal

    @functools.cached_property
    def _scaled(self) -> tuple[Tensor, Tensor]:
        """(V, s) with the covariance D^1/2 (I + V^T diag(s) V) D^1/2, V of orthonormal rows."""
        scaled = self.factor / self.diagonal.sqrt()
        values, left = torch.linalg.eigh(scaled @ scaled.T)
        kept = values > values.max() * 1e-14
        values, left = values[kept], left[:, kept]
        return (left.T @ scaled) / values.sqrt()[:, None], values

    def _power(self, vectors: Tensor, exponent: float) -> Tensor:
        """Return rows times (I + V^T diag(s) V)^exponent."""
        basis, values = self._scaled
        return vectors + ((vectors @ basis.T) * ((1 + values) ** exponent - 1)) @ basis

    def precision_matvec(self, vectors: Tensor) -> Tensor:
        """Return the inverse covariance times vectors, (..., n), by Woodbury's identity."""
        deviation = self.diagonal.sqrt()
        return self._power(vectors / deviation, -1.0) / deviation

    def covariance_matvec(self, vectors: Tensor) -> Tensor:
        """Return the covariance times vectors, (..., n)."""
        return (vectors @ self.factor.T) @ self.factor + vectors * self.diagonal

    def posterior_covariance(self, curvature: float) -> Callable[[Tensor], Tensor]:
        """Return v -> (P + c I)^-1 v of (..., n), P the precision: what data leave of the prior.

        Of data that tell every pixel with precision c. Where the eigenvalues of real data lie
        around c it is a good preconditioner of theirs and the prior's together.
        """
        # With the covariance S, (P + c I)^-1 = S (I + c S)^-1, and I + c S is of S's own form.
        shifted = GaussianPrior(
            self.mean, self.factor * curvature**0.5, 1 + curvature * self.diagonal
        )
        return lambda vectors: self.covariance_matvec(shifted.precision_matvec(vectors))

    def posterior_variance(self, curvature: float) -> Tensor:
        """Return the diagonal of the map of :meth:`posterior_covariance`, (n,); curvature > 0."""
        # S (I + c S)^-1 with S = F^T F + diag(d) and (I + c S)^-1 = diag(1/e) - U^T U.
        scale = 1 + curvature * self.diagonal
        basis, values = GaussianPrior(self.mean, self.factor * curvature**0.5, scale)._scaled
        U = (values / (1 + values)).sqrt()[:, None] * basis / scale.sqrt()
        left = 1 / scale - U.square().sum(0)
        taken = (((self.factor @ U.T) @ U) * self.factor).sum(0)
        shared = self.factor.square().sum(0) / scale - taken
        # One form cancels where the data tell little, the other where they tell much.
        return torch.where(left < 0.5, (1 - left) / curvature, shared + self.diagonal * left)

    def precision(self) -> Tensor:
        """Return the inverse covariance, (n, n); for images of few pixels."""
        return self.precision_matvec(torch.eye(self.size).to(self.diagonal))

    def covariance(self) -> Tensor:
        """Return the covariance, (n, n); for images of few pixels."""
        return self.factor.T @ self.factor + self.diagonal.diag()

    def whiten(self, images: Tensor) -> Tensor:
        """Return images (..., C, H, W) as (..., n) of zero mean and unit covariance.

        Its square sum is the Mahalanobis distance; its Jacobian R has R^T R = precision.
        """
        centred = (images - self.mean[0]).flatten(-3)
        return self._power(centred / self.diagonal.sqrt(), -0.5)

    def colour(self, whitened: Tensor) -> Tensor:
        """Return the images (..., C, H, W) of which :meth:`whiten` makes these, (..., n)."""
        centred = self._power(whitened, 0.5) * self.diagonal.sqrt()
        return self.mean[0] + centred.unflatten(-1, self.mean.shape[1:])

    def sample(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Return ``count`` images drawn from the distribution, (count, C, H, W), not clamped."""
        shared = torch.randn(count, len(self.factor), generator=generator, dtype=torch.float64)
        own = torch.randn(count, self.size, generator=generator, dtype=torch.float64)
        drawn = shared.to(self.factor) @ self.factor + own.to(self.factor) * self.diagonal.sqrt()
        return self.mean + drawn.view(count, *self.mean.shape[1:])

    def to(
        self, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> GaussianPrior:
        """Return the prior on another device or in another precision; itself if it is there."""
        if device in (None, self.mean.device) and dtype in (None, self.mean.dtype):
            return self
        moved = (t.to(device=device, dtype=dtype) for t in (self.mean, self.factor, self.diagonal))
        return GaussianPrior(*moved)

    def save(self, path: Path) -> None:
        """Write the distribution to ``path`` (safetensors); no image can be read from it."""
        tensors = {"mean": self.mean, "factor": self.factor, "diagonal": self.diagonal}
        with atomic_write(path) as temporary:
            save_file({name: t.cpu().contiguous() for name, t in tensors.items()}, temporary)

    @classmethod
    def load(cls, path: Path) -> GaussianPrior:
        """Read what :meth:`save` wrote.

        Raises
        ------
        PriorError
            If the file is missing, damaged or not a prior.
        """
        try:
            found = load_file(path)
            prior = cls(found["mean"], found["factor"], found["diagonal"])
            shapes_fit = prior.mean[0].numel() == prior.size == prior.factor.shape[1]
        except (OSError, KeyError, IndexError, SafetensorError) as error:
            raise PriorError(f"{path}: not a saved prior ({error})") from error
        if not shapes_fit or not bool((prior.diagonal > 0).all()):
            raise PriorError(f"{path}: not a saved prior (its arrays do not fit each other)")
        return prior
