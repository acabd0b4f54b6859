"""What is added to the misfit: the prior's term, or none; and the metric that damps steps."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from adversary.priors.gaussian import GaussianPrior


class PriorTerm(Protocol):
    """What is added to the misfit, and the metric M in which steps are damped."""

    def rescale(self, diagonal: float) -> None:
        """Take note of the mean diagonal entry of w J^T J, for metrics without a scale."""

    def value(self, images: Tensor) -> float:
        """Return the penalty of (B, C, H, W)."""

    def gradient(self, images: Tensor) -> Tensor:
        """Return half the gradient of the penalty, (n,)."""

    def matvec(self, vector: Tensor, damping: float) -> Tensor:
        """Return (penalty's own share + damping) M v, (n,)."""

    def length(self, vector: Tensor) -> float:
        """Return the length of v, (n,), in the metric M."""

    def precondition(self, vector: Tensor, damping: float) -> Tensor:
        """Return what approximately undoes :meth:`matvec`, (n,)."""

    def add(self, normal: Tensor, damping: float) -> None:
        """Add (share + damping) M to a dense matrix, (n, n), in place."""


class GaussianTerm:
    """(x - mu)^T P (x - mu), for the maximum a posteriori; steps are damped by P as well.

    Parameters
    ----------
    prior : GaussianPrior
        Of each image of the batch.
    """

    def __init__(self, prior: GaussianPrior) -> None:
        self.prior = prior
        self._precision: Tensor | None = None

    def rescale(self, diagonal: float) -> None:
        """See :class:`PriorTerm`."""

    def value(self, images: Tensor) -> float:
        """See :class:`PriorTerm`."""
        return float(self.prior.whiten(images).square().sum())

    def gradient(self, images: Tensor) -> Tensor:
        """See :class:`PriorTerm`."""
        return self.prior.precision_matvec((images - self.prior.mean).flatten(1)).flatten()

    def matvec(self, vector: Tensor, damping: float) -> Tensor:
        """See :class:`PriorTerm`."""
        images = vector.view(-1, self.prior.size)
        return (1 + damping) * self.prior.precision_matvec(images).flatten()

    def length(self, vector: Tensor) -> float:
        """See :class:`PriorTerm`."""
        return (vector @ self.matvec(vector, 0.0)).item() ** 0.5

    def precondition(self, vector: Tensor, damping: float) -> Tensor:
        """See :class:`PriorTerm`."""
        images = vector.view(-1, self.prior.size)
        return self.prior.covariance_matvec(images).flatten() / (1 + damping)

    def add(self, normal: Tensor, damping: float) -> None:
        """See :class:`PriorTerm`."""
        if self._precision is None:
            self._precision = self.prior.precision()
        size = self.prior.size
        for i in range(0, len(normal), size):
            normal[i : i + size, i : i + size].add_(self._precision, alpha=1 + damping)


class NoPriorTerm:
    """No penalty, for the maximum likelihood; steps are damped by their length."""

    def __init__(self) -> None:
        self.scale = 1.0

    def rescale(self, diagonal: float) -> None:
        """See :class:`PriorTerm`."""
        self.scale = diagonal

    def value(self, images: Tensor) -> float:
        """See :class:`PriorTerm`."""
        return 0.0

    def gradient(self, images: Tensor) -> Tensor:
        """See :class:`PriorTerm`."""
        return torch.zeros_like(images).flatten()

    def matvec(self, vector: Tensor, damping: float) -> Tensor:
        """See :class:`PriorTerm`."""
        return self.scale * damping * vector

    def length(self, vector: Tensor) -> float:
        """See :class:`PriorTerm`."""
        return float(vector.norm())

    def precondition(self, vector: Tensor, damping: float) -> Tensor:
        """See :class:`PriorTerm`."""
        return vector

    def add(self, normal: Tensor, damping: float) -> None:
        """See :class:`PriorTerm`."""
        normal.diagonal().add_(self.scale * damping)
