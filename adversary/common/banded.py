"""Symmetric matrices with entries near the diagonal alone, and their Cholesky factors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import LinAlgError, cho_solve_banded, cholesky_banded
from scipy.linalg.blas import dsbmv
from torch import Tensor

Array = npt.NDArray[np.float64]


class Banded:
    """A symmetric matrix A, (n, n), with A[i, j] = 0 for |i - j| > w.

    Parameters
    ----------
    upper : ndarray
        (w + 1, n), float64: A[i, j] is ``upper[w + i - j, j]`` for i <= j, as LAPACK has it.
    """

    def __init__(self, upper: Array) -> None:
        self.upper = upper

    @classmethod
    def zeros(cls, size: int, half_width: int) -> Banded:
        """Return the matrix of zeros with n = ``size`` and w = ``half_width``."""
        return cls(np.zeros((half_width + 1, size)))

    @property
    def half_width(self) -> int:
        """The distance w."""
        return len(self.upper) - 1

    @property
    def diagonal(self) -> Array:
        """(n,)."""
        return self.upper[-1]

    def add(self, places: npt.NDArray[np.int64], block: Array) -> None:
        """Add a symmetric block, (k, k), at rows and columns ``places``, (k,), which ascend."""
        i, j = np.triu_indices(len(places))
        row, column = places[i], places[j]
        self.upper[self.half_width + row - column, column] += block[i, j]

    def plus(self, other: Banded, scale: float, other_scale: float) -> Banded:
        """Return ``scale`` A + ``other_scale`` B of a matrix B that is no wider."""
        found = scale * self.upper
        found[len(found) - len(other.upper) :] += other_scale * other.upper
        return Banded(found)

    def shifted(self, by: float) -> Banded:
        """Return A + ``by`` I."""
        found = self.upper.copy()
        found[-1] += by
        return Banded(found)

    def factor(self) -> Factor | None:
        """Return Cholesky's factor; None where the matrix is not positive definite."""
        try:
            return Factor(cholesky_banded(self.upper, check_finite=False))
        except LinAlgError:
            return None

    def matvec(self, vector: Tensor) -> Tensor:
        """Return A v, (n,)."""
        v = vector.cpu().double().numpy()
        return torch.from_numpy(dsbmv(self.half_width, 1.0, self.upper, v)).to(vector)


class Factor:
    """Cholesky's factor of a banded matrix, as LAPACK has it."""

    def __init__(self, upper: Array) -> None:
        self._upper = upper

    def solve(self, right: Tensor) -> Tensor:
        """Return A^-1 b of (n,) or, column by column, (n, k)."""
        b = right.cpu().double().numpy()
        return torch.from_numpy(cho_solve_banded((self._upper, False), b, check_finite=False)).to(
            right
        )
