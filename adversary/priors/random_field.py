r"""A normal distribution of images whose precision ties neighbours alone.

A Gaussian Markov random field (Rue and Held, "Gaussian Markov Random Fields", 2005): the precision
is a sum over pairs of neighbours, so that linear equations with it and a windowed Jacobian's stay
sparse. Of a full covariance it keeps the variances of the
differences of neighbours and that of the mean grey level. On a grid of equal weights w the
difference of two neighbours has variance 1/(2 w): half of that of the pair alone.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import scipy
import torch
from torch import Tensor

from adversary.priors.gaussian import GaussianPrior

if TYPE_CHECKING:
    from scipy.sparse.linalg import SuperLU


class RandomField:
    """(x - mu)^T P (x - mu) with a sparse P: a :class:`~adversary.optim.prior_terms.PriorTerm`.

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
        solved = self._factor.solve(vector.cpu().double().numpy())
        return torch.from_numpy(solved).to(vector) / (1 + damping)

    def add(self, normal: Tensor, damping: float) -> None:
        """See :class:`~adversary.optim.prior_terms.PriorTerm`."""
        rows = torch.eye(len(normal)).to(normal)
        normal += torch.stack([self.matvec(row, damping) for row in rows])

    def filled(self, images: Tensor, unknown: Tensor) -> Tensor:
        """Return images, (1, C, H, W), with the mean of unknown pixels, (n,), given the others."""
        from scipy.sparse.linalg import splu  # slow to import

        places, others = (part.nonzero()[:, 0].numpy() for part in (unknown, ~unknown))
        away = (images - self.mean).flatten().cpu().double().numpy()
        rows = self.sparse[places]
        pull = -(rows[:, others] @ away[others])
        away[places] = splu(rows[:, places].tocsc()).solve(pull)
        return self.mean + torch.from_numpy(away).to(images).view_as(images)

    @functools.cached_property
    def sparse(self) -> scipy.sparse.csr_array:
        """P, (n, n)."""
        across = torch.zeros(self.mean.shape[1:], dtype=torch.float64)
        down = across.clone()
        across[..., :-1] = self._across.cpu()
        down[..., :-1, :] = self._down.cpu()
        ties = [(across.flatten().numpy(), 1), (down.flatten().numpy(), self.mean.shape[-1])]
        size = across.numel()
        own, found = np.full(size, float(self._level)), scipy.sparse.csr_array((size, size))
        for weight, step in ties:
            own[: size - step] += weight[: size - step]
            own[step:] += weight[: size - step]
            pairs = [-weight[: size - step]] * 2
            tie = scipy.sparse.diags_array(pairs, offsets=[step, -step], shape=(size, size))
            found = found + tie
        return scipy.sparse.csr_array(found + scipy.sparse.diags_array(own))

    @functools.cached_property
    def _factor(self) -> SuperLU:
        from scipy.sparse.linalg import splu  # slow to import

        return splu(self.sparse.tocsc())


def _precision(differences: Tensor, own: Tensor) -> Tensor:
    """Return the weights of pairs from what their two values share and do not."""
    return 1 / (2 * (differences.square().sum(0) + own))
