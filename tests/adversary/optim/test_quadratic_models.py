from __future__ import annotations

import copy
from functools import partial

import pytest
import torch

from adversary.optim.conjugate_gradients import conjugate_gradients
from adversary.optim.prior_terms import GaussianTerm, NoPriorTerm
from adversary.optim.quadratic_models import (
    CGModel,
    DenseModel,
    SketchedCGModel,
    SketchPreconditioner,
    count_sketch,
    symmetric_product,
)
from adversary.priors.smooth import smooth_covariance, smooth_prior


class Linear:
    """r(x) = A x - b, with the interface of residuals."""

    def __init__(self, shape, equations, seed=0):
        draw = torch.Generator().manual_seed(seed)
        self.shape = shape
        n = torch.Size(shape).numel()
        self.A = torch.randn(equations, n, generator=draw, dtype=torch.float64)
        self.b = torch.randn(equations, generator=draw, dtype=torch.float64)
        self.taken = 0

    def __call__(self, x):
        return self.A @ x.flatten() - self.b

    def __len__(self):
        return len(self.b)

    def rows(self, x, chunk, mix=None):
        assert x.dtype == self.A.dtype
        self.taken += 1
        return self.A.T.clone() if mix is None else torch.stack([mix(a) for a in self.A.T])

    def forward(self, x, v):
        return self.A @ v.flatten()

    def bend(self, x, v):
        return torch.zeros_like(self.b)

    def pullback(self, x):
        return lambda u: self.A.T @ u

    def single(self):
        part = copy.copy(self)
        part.A = self.A.float()
        self.taken += 1
        return part


@pytest.mark.parametrize("damping", [0.0, 0.3])
@pytest.mark.parametrize("penalty", [NoPriorTerm, lambda: GaussianTerm(smooth_prior((1, 4, 4)))])
def test_both_models_solve_the_normal_equations(penalty, damping):
    shape = (2, 1, 4, 4)
    equations = Linear(shape, 60)
    x = torch.full(shape, 0.4, dtype=torch.float64)
    r = equations(x)
    M = torch.zeros(32, 32, dtype=torch.float64)
    dense = DenseModel(equations, x, r, penalty())
    assert dense.factorise(0.5, damping)
    dense.penalty.add(M, damping)
    H = 0.5 * equations.A.T @ equations.A + M
    G = 0.5 * equations.A.T @ r + dense.penalty.gradient(x)
    torch.testing.assert_close(dense.gradient(), G)
    torch.testing.assert_close(dense.solve(-G), torch.linalg.solve(H, -G))
    sketched = SketchedCGModel(SketchPreconditioner(1.5), equations, x, r, penalty())
    assert sketched.factorise(0.5, damping)
    sketched.penalty.rescale(getattr(dense.penalty, "scale", 1.0))
    torch.testing.assert_close(sketched.gradient(), G)
    exact = torch.linalg.solve(H, -G)
    # Conjugate gradients end by the norm of all entries together, whatever small ones are off by.
    assert float((sketched.solve(-G) - exact).norm()) < 1e-4 * float(exact.norm())
    free = CGModel(equations, x, r, penalty())
    assert free.factorise(0.5, damping)
    free.penalty.rescale(getattr(dense.penalty, "scale", 1.0))  # the estimate is a rough one
    torch.testing.assert_close(free.gradient(), G)
    assert float((free.solve(-G) - exact).norm()) < 1e-4 * float(exact.norm())
    d = torch.randn(32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert free.curvature(d) == pytest.approx(dense.curvature(d))


def test_the_penalty_is_the_mahalanobis_distance_and_its_gradient():
    prior = smooth_prior((1, 4, 4))
    penalty = GaussianTerm(prior)
    x = torch.rand(2, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    u = (x - 0.5).flatten(1)
    value = float(torch.einsum("bi,ij,bj->", u, torch.linalg.inv(prior.covariance()), u))
    assert penalty.value(x) == pytest.approx(value)
    expected = (u @ torch.linalg.inv(prior.covariance())).flatten()
    torch.testing.assert_close(penalty.gradient(x), expected)
    v = torch.rand(32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(penalty.precondition(penalty.matvec(v, 0.7), 0.7), v)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 4, 6)])
def test_the_smooth_prior_has_the_smooth_covariance(shape):
    prior = smooth_prior(shape)
    pixels = torch.Size(shape).numel()
    expected = smooth_covariance(torch.eye(pixels, dtype=torch.float64).view(-1, *shape)).flatten(1)
    torch.testing.assert_close(prior.covariance(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("block", [3, 4, 100])
def test_a_symmetric_product_is_that_of_the_rows(block):
    A = torch.randn(10, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(symmetric_product(A, block), A @ A.T)


def test_a_sketch_saves_iterations(monkeypatch):
    """A few iterations solve what conjugate gradients without it do not."""
    monkeypatch.setattr("adversary.optim.quadratic_models.CG_ITERATIONS", 12)
    monkeypatch.setattr("adversary.optim.quadratic_models.MAX_FRESH_ITERATIONS", 12)
    equations = Linear((1, 1, 8, 8), 2000)
    equations.A *= torch.logspace(0, -3, 64, dtype=torch.float64)
    x = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    exact = torch.linalg.solve(equations.A.T @ equations.A, equations.A.T @ equations.b)
    for model, solves in (
        (
            SketchedCGModel(SketchPreconditioner(8.0), equations, x, equations(x), NoPriorTerm()),
            True,
        ),
        (CGModel(equations, x, equations(x), NoPriorTerm()), False),
    ):
        assert model.factorise(1.0, 0.0)
        missing = model.solve(-model.gradient()) - exact
        image = equations.forward(x, missing)
        size = equations.forward(x, exact)
        assert (float(image.norm() / size.norm()) < 1e-2) == solves


@pytest.mark.parametrize("seed", range(3))
def test_conjugate_gradients_solve(seed):
    draw = torch.Generator().manual_seed(seed)
    A = torch.randn(20, 30, generator=draw, dtype=torch.float64)
    A = A @ A.T
    b = torch.randn(20, generator=draw, dtype=torch.float64)
    solve = partial(conjugate_gradients, lambda v: A @ v, b, lambda v: v / A.diagonal())
    found, done = solve(start=torch.zeros_like(b), iterations=40)
    assert done
    torch.testing.assert_close(A @ found, b, rtol=1e-4, atol=1e-4)
    half, done = solve(start=torch.zeros_like(b), iterations=3)
    assert not done
    found, done = solve(start=half, iterations=40)
    assert done
    torch.testing.assert_close(A @ found, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steepness", [0.0, 3.0, 6.0])
def test_groups_keep_the_normal_equations_however_unevenly_equations_tell(steepness):
    """Eigenvalues of (J^T J)^-1 J^T S^T S J are of order 1, those of a uniform sample are not."""
    draw = torch.Generator().manual_seed(0)
    J = torch.randn(3000, 20, generator=draw, dtype=torch.float64)
    J *= torch.logspace(0, -steepness, 3000, dtype=torch.float64)[:, None]
    J = J[torch.randperm(3000, generator=draw)]
    mix = count_sketch(3000, 400)
    mixed = torch.stack([mix(column) for column in J.T], dim=1)
    assert mixed.shape == (400, 20)
    assert torch.equal(mix(J[:, 0]), mix(J[:, 0]))
    eigenvalues = torch.linalg.eigvals(torch.linalg.solve(J.T @ J, mixed.T @ mixed)).real
    assert 0.3 < float(eigenvalues.min()) <= float(eigenvalues.max()) < 2.5


def stepped(sketch, equations, x):
    """Return the sketched model at x after a solve, checked against the normal equations."""
    model = SketchedCGModel(sketch, equations, x, equations(x), NoPriorTerm())
    assert model.factorise(1.0, 0.0)
    H, right = equations.A.T @ equations.A, torch.ones(len(equations.A.T), dtype=torch.float64)
    exact = torch.linalg.solve(H, right)
    error = model.solve(right) - exact
    assert float(error @ H @ error) < 1e-8 * float(exact @ H @ exact)
    return model


def test_a_sketch_is_kept_for_as_long_as_it_serves():
    equations, sketch = Linear((1, 1, 6, 6), 300), SketchPreconditioner(4.0)
    x = torch.zeros(1, 1, 6, 6, dtype=torch.float64)
    first = stepped(sketch, equations, x)
    assert first.evaluations >= 36
    taken = equations.taken
    near = stepped(sketch, equations, x + 0.1)
    assert equations.taken == taken
    assert near.evaluations < 36 + first.evaluations
    equations.A = equations.A @ torch.diag(torch.logspace(0, -4, 36, dtype=torch.float64))
    far = stepped(sketch, equations, x + 0.2)
    assert equations.taken > taken
    assert far.evaluations >= 36


def test_where_float32_is_too_coarse_a_sketch_is_of_float64(monkeypatch):
    monkeypatch.setattr("adversary.optim.quadratic_models.MAX_FRESH_ITERATIONS", 2)
    equations, sketch = Linear((1, 1, 6, 6), 300), SketchPreconditioner(400.0)
    turn = torch.linalg.qr(equations.A[:36])[0]
    equations.A = equations.A @ torch.diag(torch.logspace(0, -7, 36, dtype=torch.float64)) @ turn
    x = torch.zeros(1, 1, 6, 6, dtype=torch.float64)
    model = SketchedCGModel(sketch, equations, x, equations(x), NoPriorTerm())
    assert model.factorise(1.0, 0.0)
    model.solve(torch.ones(36, dtype=torch.float64))
    assert equations.taken == 2  # single first, then double
    assert sketch.improve(equations, x) == 0
