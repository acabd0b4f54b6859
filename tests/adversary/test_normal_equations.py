from __future__ import annotations

import copy

import pytest
import torch

from adversary.normal_equations import (
    Dense,
    Flat,
    MatrixFree,
    Probable,
    Sketched,
    conjugate_gradients,
    symmetric_product,
)
from adversary.smoothness import covariance, smooth_prior


class Linear:
    """r(x) = A x - b, with the interface of residuals."""

    def __init__(self, shape, equations, seed=0):
        draw = torch.Generator().manual_seed(seed)
        self.shape = shape
        n = torch.Size(shape).numel()
        self.A = torch.randn(equations, n, generator=draw, dtype=torch.float64)
        self.b = torch.randn(equations, generator=draw, dtype=torch.float64)

    def __call__(self, x):
        return self.A @ x.flatten() - self.b

    def rows(self, x, chunk):
        return self.A.T.clone()

    def forward(self, x, v):
        return self.A @ v.flatten()

    def bend(self, x, v):
        return torch.zeros_like(self.b)

    def pullback(self, x):
        return lambda u: self.A.T @ u

    def sketch(self, count):
        part = copy.copy(self)
        kept = int(count)
        part.A, part.b = self.A[:kept] * (len(self.b) / kept) ** 0.5, self.b[:kept]
        return part


@pytest.mark.parametrize("damping", [0.0, 0.3])
@pytest.mark.parametrize("penalty", [Flat, lambda: Probable(smooth_prior((1, 4, 4)))])
def test_both_models_solve_the_normal_equations(penalty, damping):
    shape = (2, 1, 4, 4)
    equations = Linear(shape, 60)
    x = torch.full(shape, 0.4, dtype=torch.float64)
    r = equations(x)
    M = torch.zeros(32, 32, dtype=torch.float64)
    dense = Dense(equations, x, r, penalty())
    assert dense.factorise(0.5, damping)
    dense.penalty.add(M, damping)
    H = 0.5 * equations.A.T @ equations.A + M
    G = 0.5 * equations.A.T @ r + dense.penalty.gradient(x)
    torch.testing.assert_close(dense.gradient(), G)
    torch.testing.assert_close(dense.solve(-G), torch.linalg.solve(H, -G))
    sketched = Sketched(1.5, equations, x, r, penalty())
    assert sketched.factorise(0.5, damping)
    sketched.penalty.rescale(getattr(dense.penalty, "scale", 1.0))
    torch.testing.assert_close(sketched.gradient(), G)
    torch.testing.assert_close(sketched.solve(-G), torch.linalg.solve(H, -G), rtol=1e-4, atol=1e-6)
    free = MatrixFree(equations, x, r, penalty())
    assert free.factorise(0.5, damping)
    free.penalty.rescale(getattr(dense.penalty, "scale", 1.0))  # the estimate is a rough one
    torch.testing.assert_close(free.gradient(), G)
    torch.testing.assert_close(free.solve(-G), torch.linalg.solve(H, -G), rtol=1e-4, atol=1e-6)
    d = torch.randn(32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert free.curvature(d) == pytest.approx(dense.curvature(d))


def test_the_penalty_is_the_mahalanobis_distance_and_its_gradient():
    prior = smooth_prior((1, 4, 4))
    penalty = Probable(prior)
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
    expected = covariance(torch.eye(pixels, dtype=torch.float64).view(-1, *shape)).flatten(1)
    torch.testing.assert_close(prior.covariance(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("block", [3, 4, 100])
def test_a_symmetric_product_is_that_of_the_rows(block):
    A = torch.randn(10, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(symmetric_product(A, block), A @ A.T)


def test_a_sketch_saves_iterations(monkeypatch):
    """Eight iterations solve what conjugate gradients without it do not."""
    monkeypatch.setattr("adversary.normal_equations.CG_ITERATIONS", 8)
    equations = Linear((1, 1, 8, 8), 2000)
    equations.A *= torch.logspace(0, -3, 64, dtype=torch.float64)
    x = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    exact = torch.linalg.solve(equations.A.T @ equations.A, equations.A.T @ equations.b)
    for model, solves in (
        (Sketched(8.0, equations, x, equations(x), Flat()), True),
        (MatrixFree(equations, x, equations(x), Flat()), False),
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
    found = conjugate_gradients(lambda v: A @ v, b, lambda v: v / A.diagonal())
    torch.testing.assert_close(A @ found, b, rtol=1e-4, atol=1e-4)
