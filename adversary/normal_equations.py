"""The quadratic model of a least-squares cost, dense or by products with vectors alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from adversary.priors import GaussianPrior
from adversary.residuals import CHUNK, Residuals

CG_ITERATIONS = 300
"""Of conjugate gradients for one step."""

CG_TOLERANCE = 1e-6
"""Residual, relative to the right-hand side, at which conjugate gradients end."""


class Penalty(Protocol):
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


class Probable:
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
        """See :class:`Penalty`."""

    def value(self, images: Tensor) -> float:
        """See :class:`Penalty`."""
        return float(self.prior.whiten(images).square().sum())

    def gradient(self, images: Tensor) -> Tensor:
        """See :class:`Penalty`."""
        return self.prior.precision_matvec((images - self.prior.mean).flatten(1)).flatten()

    def matvec(self, vector: Tensor, damping: float) -> Tensor:
        """See :class:`Penalty`."""
        images = vector.view(-1, self.prior.size)
        return (1 + damping) * self.prior.precision_matvec(images).flatten()

    def length(self, vector: Tensor) -> float:
        """See :class:`Penalty`."""
        return (vector @ self.matvec(vector, 0.0)).item() ** 0.5

    def precondition(self, vector: Tensor, damping: float) -> Tensor:
        """See :class:`Penalty`."""
        images = vector.view(-1, self.prior.size)
        return self.prior.covariance_matvec(images).flatten() / (1 + damping)

    def add(self, normal: Tensor, damping: float) -> None:
        """See :class:`Penalty`."""
        if self._precision is None:
            self._precision = self.prior.precision()
        size = self.prior.size
        for i in range(0, len(normal), size):
            normal[i : i + size, i : i + size].add_(self._precision, alpha=1 + damping)


class Flat:
    """No penalty, for the maximum likelihood; steps are damped by their length."""

    def __init__(self) -> None:
        self.scale = 1.0

    def rescale(self, diagonal: float) -> None:
        """See :class:`Penalty`."""
        self.scale = diagonal

    def value(self, images: Tensor) -> float:
        """See :class:`Penalty`."""
        return 0.0

    def gradient(self, images: Tensor) -> Tensor:
        """See :class:`Penalty`."""
        return torch.zeros_like(images).flatten()

    def matvec(self, vector: Tensor, damping: float) -> Tensor:
        """See :class:`Penalty`."""
        return self.scale * damping * vector

    def length(self, vector: Tensor) -> float:
        """See :class:`Penalty`."""
        return float(vector.norm())

    def precondition(self, vector: Tensor, damping: float) -> Tensor:
        """See :class:`Penalty`."""
        return vector

    def add(self, normal: Tensor, damping: float) -> None:
        """See :class:`Penalty`."""
        normal.diagonal().add_(self.scale * damping)


class Model(Protocol):
    """c(x) + 2 G^T d + d^T H d, the cost near one place, H = w J^T J + penalty."""

    def factorise(self, weight: float, damping: float) -> bool:
        """Prepare H + damping M, w the weight, > 0; return whether it can be inverted."""

    def gradient(self) -> Tensor:
        """Return G at the weight, (n,)."""

    def solve(self, right: Tensor) -> Tensor:
        """Return d of (H + damping M) d = b, (n,)."""

    def curvature(self, step: Tensor) -> float:
        """Return d^T H d at the weight."""


class _Quadratic:
    """What the models share: the slope of the misfit, weighed against the penalty's."""

    def __init__(self, slope: Tensor, images: Tensor, penalty: Penalty) -> None:
        self.penalty = penalty
        self.weight = 1.0
        self._slope = slope
        self._pull = penalty.gradient(images)

    def gradient(self) -> Tensor:
        """See :class:`Model`."""
        return self.weight * self._slope + self._pull


class Dense(_Quadratic):
    """The model with H in memory, solved by Cholesky's factorisation.

    Parameters
    ----------
    equations : Residuals
        The residuals.
    images : Tensor
        Where, (B, C, H, W).
    r : Tensor
        Residuals there, (m,).
    penalty : Penalty
        What is added to the misfit.
    """

    def __init__(self, equations: Residuals, images: Tensor, r: Tensor, penalty: Penalty) -> None:
        rows = equations.rows(images, CHUNK)
        super().__init__(rows @ r, images, penalty)
        self._normal = symmetric_product(rows, images[0].numel())

    @staticmethod
    def memory(unknowns: int, equations: int) -> int:
        """Return the bytes that a step needs: the Jacobian, H, a damped copy and its factor."""
        return 8 * unknowns * (equations + 3 * unknowns)

    def factorise(self, weight: float, damping: float) -> bool:
        """See :class:`Model`."""
        self.weight = weight
        damped = self._normal * weight
        self.penalty.rescale(damped.diagonal().mean().item())
        self.penalty.add(damped, damping)
        self._factor, failed = torch.linalg.cholesky_ex(damped)
        return not int(failed)

    def solve(self, right: Tensor) -> Tensor:
        """See :class:`Model`."""
        return torch.cholesky_solve(right[:, None], self._factor)[:, 0]

    def curvature(self, step: Tensor) -> float:
        """See :class:`Model`."""
        image = self.weight * (self._normal @ step) + self.penalty.matvec(step, 0.0)
        return (step @ image).item()


class _ByProducts(_Quadratic, ABC):
    """The model by products with vectors, solved by preconditioned conjugate gradients.

    Takes the parameters of :class:`Dense`.
    """

    def __init__(self, equations: Residuals, images: Tensor, r: Tensor, penalty: Penalty) -> None:
        self._pullback = equations.pullback(images)
        super().__init__(self._pullback(r), images, penalty)
        self.equations = equations
        self.images = images

    def factorise(self, weight: float, damping: float) -> bool:
        """See :class:`Model`."""
        self.weight, self._damping = weight, damping
        return self._prepare()

    def solve(self, right: Tensor) -> Tensor:
        """See :class:`Model`."""
        return conjugate_gradients(
            lambda v: self._data(v) + self.penalty.matvec(v, self._damping),
            right,
            self._precondition,
        )

    def curvature(self, step: Tensor) -> float:
        """See :class:`Model`."""
        return (step @ (self._data(step) + self.penalty.matvec(step, 0.0))).item()

    def _data(self, vector: Tensor) -> Tensor:
        image = self.equations.forward(self.images, vector.view_as(self.images))
        return self._pullback(self.weight * image)

    @abstractmethod
    def _prepare(self) -> bool:
        """Prepare the preconditioner and the penalty's scale; return whether that worked."""

    @abstractmethod
    def _precondition(self, vector: Tensor) -> Tensor:
        """Return what approximately undoes H + damping M, (n,)."""


class MatrixFree(_ByProducts):
    """The model by products alone: memory grows with the gradient, not with its Jacobian.

    Takes the parameters of :class:`Dense`.
    """

    def __init__(self, equations: Residuals, images: Tensor, r: Tensor, penalty: Penalty) -> None:
        super().__init__(equations, images, r, penalty)
        probe = torch.randn(len(r), generator=torch.Generator().manual_seed(0)).to(r)
        # E z z^T = I, so that this estimates the mean diagonal entry of J^T J (Hutchinson).
        self._diagonal = self._pullback(probe).square().mean().item()

    def _prepare(self) -> bool:
        self.penalty.rescale(self.weight * self._diagonal)
        return True

    def _precondition(self, vector: Tensor) -> Tensor:
        return self.penalty.precondition(vector, self._damping)


class Sketched(_ByProducts):
    """The model of all equations, solved by conjugate gradients with a sample of them in memory.

    H of some equations a pixel is H of all but for a factor of order 1 in every direction, so that
    a few iterations suffice (sketched preconditioning, Rokhlin and Tygert 2008).

    Parameters
    ----------
    sample : float
        Equations a pixel of the sketch, > 1.
    equations, images, r, penalty
        As of :class:`Dense`.
    """

    def __init__(
        self,
        sample: float,
        equations: Residuals,
        images: Tensor,
        r: Tensor,
        penalty: Penalty,
    ) -> None:
        super().__init__(equations, images, r, penalty)
        sketch = equations.sketch(sample * images.numel())
        self._sketch = Dense(sketch, images, sketch(images), penalty)

    def _prepare(self) -> bool:
        return self._sketch.factorise(self.weight, self._damping)

    def _precondition(self, vector: Tensor) -> Tensor:
        return self._sketch.solve(vector)


def symmetric_product(rows: Tensor, block: int) -> Tensor:
    """Return A A^T of (n, m), block by block, each pair of blocks once."""
    n = len(rows)
    found = rows.new_empty(n, n)
    for i in range(0, n, block):
        for j in range(0, i + 1, block):
            part = rows[i : i + block] @ rows[j : j + block].T
            found[i : i + block, j : j + block] = part
            found[j : j + block, i : i + block] = part.T
    return found


def conjugate_gradients(
    matvec: Callable[[Tensor], Tensor],
    right: Tensor,
    precondition: Callable[[Tensor], Tensor],
) -> Tensor:
    """Return an approximate solution of A x = b for symmetric positive definite A.

    Hestenes and Stiefel 1952, preconditioned. Ends at :data:`CG_TOLERANCE` or after
    :data:`CG_ITERATIONS`: cut short it is a regularised step, and still one downhill.
    """
    x = torch.zeros_like(right)
    residual = right.clone()
    z = precondition(residual)
    direction = z.clone()
    size = float(residual @ z)
    enough = CG_TOLERANCE**2 * size
    for _ in range(min(CG_ITERATIONS, 2 * len(right))):
        if size <= enough:
            break
        image = matvec(direction)
        length = size / float(direction @ image)
        x += length * direction
        residual -= length * image
        z = precondition(residual)
        before, size = size, float(residual @ z)
        direction = z + size / before * direction
    return x
