r"""A normal distribution of images whose precision ties neighbours alone.

A Gaussian Markov random field (Rue and Held, "Gaussian Markov Random Fields", 2005): the precision
is a sum over pairs of neighbours, so that it lies near the diagonal and linear equations with it
and a windowed Jacobian's stay banded. Of a full covariance it keeps the variances of the
differences of neighbours and that of the mean grey level. On a grid of equal weights w the
difference of two neighbours has variance 1/(2 w): half of that of the pair alone.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from adversary.common.banded import Banded, Factor
from adversary.priors.gaussian import GaussianPrior


class RandomField:
    """(x - mu)^T P (x - mu) with a banded P: a :class:`~adversary.optim.prior_terms.PriorTerm`.

    Steps are damped by P as well.

    Parameters
    ----------
    prior : GaussianPrior
        Of one image, (C, H, W); for its mean and the variances that P keeps.
    """

    def __init__(self, prior: GaussianPrior) -> None:
        self.mean = prior.mean
        factor = prior.factor.view(-1, *self.mean.shape[1:])
        own = prior.diagonal.view(self.mean.shape[1:])
        self._across = _precision(factor.diff(dim=-1), own[..., 1:] + own[..., :-1])
        self._down = _precision(factor.diff(dim=-2), own[..., 1:, :] + own[..., :-1, :])
        level = float(prior.factor.mean(1).square().sum() + prior.diagonal.mean() / prior.size)
        self._level = 1 / (prior.size * level)

    def rescale(self, diagonal: float) -> None:
        """See :class:`~adversary.optim.prior_terms.PriorTerm`."""

    def value(self, images: Tensor) -> float:
        """See :class:`~adversary.optim.prior_terms.PriorTerm`."""
        away = (images - self.mean).flatten()
        return (away @ self.matvec(away, 0.0)).item()

    def gradient(self, images: Tensor) -> Tensor:
        """See :class:`~adversary.optim.prior_terms.PriorTerm`."""
        return self.matvec((images - self.mean).flatten(), 0.0)

    def matvec(self, vector: Tensor, damping: float) -> Tensor:
        """See :class:`~adversary.optim.prior_terms.PriorTerm`."""
        image = vector.view(self.mean.shape[1:])
        found = self._level * image
        across, down = self._across * image.diff(dim=-1), self._down * image.diff(dim=-2)
        found[..., 1:] += across
        found[..., :-1] -= across
        found[..., 1:, :] += down
        found[..., :-1, :] -= down
        return (1 + damping) * found.flatten()

    def length(self, vector: Tensor) -> float:
        """See :class:`~adversary.optim.prior_terms.PriorTerm`."""
        return (vector @ self.matvec(vector, 0.0)).item() ** 0.5

    def precondition(self, vector: Tensor, damping: float) -> Tensor:
        """See :class:`~adversary.optim.prior_terms.PriorTerm`."""
        return self._factor.solve(vector) / (1 + damping)

    def add(self, normal: Tensor, damping: float) -> None:
        """See :class:`~adversary.optim.prior_terms.PriorTerm`."""
        rows = torch.eye(len(normal)).to(normal)
        normal += torch.stack([self.matvec(row, damping) for row in rows])

    @functools.cached_property
    def banded(self) -> Banded:
        """P, (n, n)."""
        width = self.mean.shape[-1]
        found = self.mean.new_zeros(width + 1, *self.mean.shape[1:])
        found[-1] = self._level
        found[-1][..., 1:] += self._across
        found[-1][..., :-1] += self._across
        found[-1][..., 1:, :] += self._down
        found[-1][..., :-1, :] += self._down
        found[-2][..., 1:] -= self._across
        found[0][..., 1:, :] -= self._down
        return Banded(found.flatten(1).cpu().numpy())

    @functools.cached_property
    def _factor(self) -> Factor:
        factor = self.banded.factor()
        assert factor is not None  # the level alone makes it positive definite
        return factor


def _precision(differences: Tensor, own: Tensor) -> Tensor:
    """Return the weights of pairs from what their two values share and do not."""
    return 1 / (2 * (differences.square().sum(0) + own))
