"""The quadratic model of a least-squares cost, dense or by products with vectors alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol, Self

import torch
from torch import Tensor

from adversary.common.seeding import generator
from adversary.optim.conjugate_gradients import conjugate_gradients
from adversary.optim.prior_terms import PriorTerm
from adversary.problem.linearised import Linearised
from adversary.problem.residuals import COLUMNS_PER_CHUNK, Mix, Residuals

CG_ITERATIONS = 300
"""Of conjugate gradients for one step."""

PIXELS_PER_EXTRA_ITERATION = 128
"""Pixels of an image for an iteration that an earlier sketch may take more than when it was new."""

MIN_EXTRA_ITERATIONS = 8
"""Such iterations at least."""

MAX_FRESH_ITERATIONS = 40
"""Iterations that a new sketch takes at most, if it is exact enough."""


class QuadraticModel(Protocol):
    """c(x) + 2 G^T d + d^T H d, the cost near one place, H = w J^T J + penalty.

    Attributes
    ----------
    evaluations : int
        Columns of J, and products of J and J^T with vectors, that were worked out.
    """

    evaluations: int

    def factorise(self, weight: float, damping: float) -> bool:
        """Prepare H + damping M, w the weight, > 0; return whether it can be inverted."""

    def gradient(self) -> Tensor:
        """Return G at the weight, (n,)."""

    def solve(self, right: Tensor) -> Tensor:
        """Return d of (H + damping M) d = b, (n,)."""

    def curvature(self, step: Tensor) -> float:
        """Return d^T H d at the weight."""


class Quadratic:
    """What the models share: the slope of the misfit, weighed against the penalty's."""

    def __init__(self, slope: Tensor, images: Tensor, penalty: PriorTerm) -> None:
        self.penalty = penalty
        self.weight = 1.0
        self.evaluations = 0
        self._slope = slope
        self._pull = penalty.gradient(images)

    def gradient(self) -> Tensor:
        """See :class:`QuadraticModel`."""
        return self.weight * self._slope + self._pull


class NormalMatrix:
    """J^T J in memory, and Cholesky's factor of H + damping M.

    Parameters
    ----------
    matrix : Tensor
        J^T J, (n, n).
    """

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix

    @classmethod
    def of(cls, rows: Tensor, block: int) -> Self:
        """Return that of a transposed Jacobian, (n, m), by products of so many rows at once."""
        return cls(symmetric_product(rows, block))

    def factorise(self, weight: float, damping: float, penalty: PriorTerm) -> bool:
        """Prepare w J^T J + (penalty + damping) M; return whether it can be inverted."""
        damped = self.matrix * weight
        penalty.rescale(damped.diagonal().mean().item())
        penalty.add(damped, damping)
        self._factor, failed = torch.linalg.cholesky_ex(damped)
        return not int(failed)

    def solve(self, right: Tensor) -> Tensor:
        """Return what the factorised matrix maps to b, (n,)."""
        return torch.cholesky_solve(right[:, None], self._factor)[:, 0]


class NormalModel(Quadratic):
    """The model with H in memory, solved by Cholesky's factorisation.

    Parameters
    ----------
    normal : NormalMatrix
        J^T J.
    slope : Tensor
        J^T r, (n,).
    images : Tensor
        Where, (B, C, H, W).
    penalty : Penalty
        What is added to the misfit.
    """

    def __init__(
        self, normal: NormalMatrix, slope: Tensor, images: Tensor, penalty: PriorTerm
    ) -> None:
        super().__init__(slope, images, penalty)
        self._normal = normal

    def factorise(self, weight: float, damping: float) -> bool:
        """See :class:`QuadraticModel`."""
        self.weight = weight
        return self._normal.factorise(weight, damping, self.penalty)

    def solve(self, right: Tensor) -> Tensor:
        """See :class:`QuadraticModel`."""
        return self._normal.solve(right)

    def curvature(self, step: Tensor) -> float:
        """See :class:`QuadraticModel`."""
        image = self.weight * (self._normal.matrix @ step) + self.penalty.matvec(step, 0.0)
        return (step @ image).item()


class DenseModel(NormalModel):
    """The model by the whole Jacobian.

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

    def __init__(self, equations: Residuals, images: Tensor, r: Tensor, penalty: PriorTerm) -> None:
        rows = equations.rows(images, COLUMNS_PER_CHUNK)
        super().__init__(NormalMatrix.of(rows, images[0].numel()), rows @ r, images, penalty)
        self.evaluations = len(rows)

    @staticmethod
    def memory(unknowns: int, equations: int) -> int:
        """Return the bytes that a step needs: the Jacobian, H, a damped copy and its factor."""
        return 8 * unknowns * (equations + 3 * unknowns)


class _IterativeModel(Quadratic, ABC):
    """The model by products with vectors, solved by preconditioned conjugate gradients.

    Takes the parameters of :class:`DenseModel`.
    """

    def __init__(self, equations: Residuals, images: Tensor, r: Tensor, penalty: PriorTerm) -> None:
        self._jacobian = Linearised(equations, images)
        super().__init__(self._jacobian.pull(r), images, penalty)
        self.evaluations = 1
        self.equations = equations
        self.images = images

    def factorise(self, weight: float, damping: float) -> bool:
        """See :class:`QuadraticModel`."""
        self.weight, self._damping = weight, damping
        return self._prepare()

    def solve(self, right: Tensor) -> Tensor:
        """See :class:`QuadraticModel`."""
        return self._solve(right, torch.zeros_like(right), CG_ITERATIONS)[0]

    def curvature(self, step: Tensor) -> float:
        """See :class:`QuadraticModel`."""
        return (step @ (self._data(step) + self.penalty.matvec(step, 0.0))).item()

    def _data(self, vector: Tensor) -> Tensor:
        self.evaluations += 2
        return self._jacobian.pull(self.weight * self._jacobian.push(vector))

    def _solve(self, right: Tensor, start: Tensor, iterations: int) -> tuple[Tensor, bool]:
        return conjugate_gradients(
            lambda v: self._data(v) + self.penalty.matvec(v, self._damping),
            right,
            self._precondition,
            start=start,
            iterations=iterations,
        )

    @abstractmethod
    def _prepare(self) -> bool:
        """Prepare the preconditioner and the penalty's scale; return whether that worked."""

    @abstractmethod
    def _precondition(self, vector: Tensor) -> Tensor:
        """Return what approximately undoes H + damping M, (n,)."""


class CGModel(_IterativeModel):
    """The model by products alone: memory grows with the gradient, not with its Jacobian.

    Takes the parameters of :class:`DenseModel`.
    """

    def __init__(self, equations: Residuals, images: Tensor, r: Tensor, penalty: PriorTerm) -> None:
        super().__init__(equations, images, r, penalty)
        probe = torch.randn(len(r), generator=torch.Generator().manual_seed(0)).to(r)
        # E z z^T = I, so that this estimates the mean diagonal entry of J^T J (Hutchinson).
        self._diagonal = self._jacobian.pull(probe).square().mean().item()

    def _prepare(self) -> bool:
        self.penalty.rescale(self.weight * self._diagonal)
        return True

    def _precondition(self, vector: Tensor) -> Tensor:
        return self.penalty.precondition(vector, self._damping)


class SketchPreconditioner:
    """J^T J at one place, roughly, kept for as long as it preconditions.

    It is worked out in float32, at a fraction of the cost, for as long as that serves. More
    equations than ``sample`` a pixel are added up in as many groups, with random signs: of the
    sums H is that of all but for a factor of order 1 in every direction, however unevenly the
    equations tell (Clarkson and Woodruff 2013).

    Parameters
    ----------
    sample : float
        Groups a pixel, > 1.

    Attributes
    ----------
    place : Tensor, optional
        Images at which it was worked out.
    iterations : int
        Of conjugate gradients that it took there.
    """

    def __init__(self, sample: float) -> None:
        self.sample = sample
        self.place: Tensor | None = None
        self.iterations = 0
        self._double = False

    def take(self, equations: Residuals, images: Tensor) -> int:
        """Work it out at images, and return how many columns of a Jacobian that took."""
        same = equations if self._double else equations.single()
        groups = int(self.sample * images.numel())
        mix = None if len(equations) <= groups else count_sketch(len(equations), groups)
        rows = same.rows(images if self._double else images.float(), COLUMNS_PER_CHUNK, mix)
        self.normal = NormalMatrix.of(rows.to(images.dtype), images[0].numel())
        self.place = images
        return len(rows)

    def improve(self, equations: Residuals, images: Tensor) -> int:
        """Work it out at images, or there more exactly; return the columns, 0 where it is."""
        if self.place is images:
            if self._double:
                return 0
            self._double = True
        return self.take(equations, images)


class SketchedCGModel(_IterativeModel):
    """The model of all equations, solved by conjugate gradients with a sample of them in memory.

    With the sketch a few iterations suffice (sketched preconditioning, Rokhlin and Tygert 2008),
    also with that of an earlier step or in float32, except where H is ill-conditioned; one that
    takes more of them than it is worth is replaced.

    Parameters
    ----------
    sketch : Sketch
        That of the step before, or an empty one.
    equations, images, r, penalty
        As of :class:`DenseModel`.
    """

    def __init__(
        self,
        sketch: SketchPreconditioner,
        equations: Residuals,
        images: Tensor,
        r: Tensor,
        penalty: PriorTerm,
    ) -> None:
        super().__init__(equations, images, r, penalty)
        self._sketch = sketch
        if sketch.place is None:
            self.evaluations += sketch.take(equations, images)

    def solve(self, right: Tensor) -> Tensor:
        """See :class:`QuadraticModel`."""
        found, done = torch.zeros_like(right), False
        while not done:
            before = self.evaluations
            found, done = self._solve(right, found, self._patience)
            if not self._stale:
                self._sketch.iterations = (self.evaluations - before) // 2
            if not done and not self._improve():
                return self._solve(right, found, CG_ITERATIONS)[0]
        return found

    @property
    def _stale(self) -> bool:
        return self._sketch.place is not self.images

    @property
    def _patience(self) -> int:
        """Iterations after which the sketch is replaced by a better one."""
        if not self._stale:
            return MAX_FRESH_ITERATIONS
        return self._sketch.iterations + max(
            MIN_EXTRA_ITERATIONS, self.images[0].numel() // PIXELS_PER_EXTRA_ITERATION
        )

    def _improve(self) -> bool:
        """Replace the sketch by a better one and prepare it; return whether there is any."""
        columns = self._sketch.improve(self.equations, self.images)
        self.evaluations += columns
        return bool(columns) and self._prepare()

    def _prepare(self) -> bool:
        return (
            self._sketch.normal.factorise(self.weight, self._damping, self.penalty)
            or self._improve()
        )

    def _precondition(self, vector: Tensor) -> Tensor:
        return self._sketch.normal.solve(vector)


def count_sketch(equations: int, groups: int, seed: int = 0) -> Mix:
    """Return the map that adds up equations, (m,), in random groups with random signs, (k,)."""
    draw = generator(seed, "groups")
    group = torch.randint(groups, (equations,), generator=draw)
    sign = 2.0 * torch.randint(2, (equations,), generator=draw) - 1

    def mix(values: Tensor) -> Tensor:
        signed = values * sign.to(values)
        return values.new_zeros(groups).index_add(0, group.to(values.device), signed)

    return mix


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
