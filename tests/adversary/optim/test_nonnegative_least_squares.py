from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import optimize

from adversary.optim import nonnegative_least_squares as module
from adversary.optim.nonnegative_least_squares import nnls


def system(equations, unknowns, columns, seed, noise=0.01):
    """Return A and b = A x + noise, half of x zero."""
    draw = torch.Generator().manual_seed(seed)
    a = torch.randn(equations, unknowns, generator=draw, dtype=torch.float64)
    a *= torch.logspace(-2, 2, unknowns, dtype=torch.float64)
    x = torch.randn(unknowns, columns, generator=draw, dtype=torch.float64).relu()
    gaps = torch.randn(equations, columns, generator=draw, dtype=torch.float64)
    return a, x, a @ x + noise * gaps


@pytest.mark.parametrize(("equations", "unknowns"), [(30, 20), (20, 20), (64, 5), (15, 20)])
@pytest.mark.parametrize("seed", range(3))
def test_as_lawson_and_hansons(equations, unknowns, seed):
    a, _, b = system(equations, unknowns, 6, seed, noise=1.0)
    found, _ = nnls(a.T @ a, a.T @ b)
    for column in range(6):
        expected, _ = optimize.nnls(a.numpy(), b[:, column].numpy())
        gap = a @ (found[:, column] - torch.from_numpy(expected))
        assert gap.norm() < 1e-6 * b[:, column].norm()
    assert (found >= 0).all()


def test_optimality():
    a, _, b = system(40, 30, 50, 7, noise=3.0)
    found, spread = nnls(a.T @ a, a.T @ b)
    slope = a.T @ (a @ found - b)
    size = (a.T @ b).abs().max()
    assert (slope[found == 0] > -1e-8 * size).all()
    assert (slope[found > 0].abs() < 1e-8 * size).all()
    assert ((spread > 0) == (found > 0)).all()


def test_the_spread_is_that_of_least_squares_on_the_support():
    a, _, b = system(30, 12, 4, 0)
    found, spread = nnls(a.T @ a, a.T @ b)
    for column in range(4):
        free = found[:, column] > 0
        inverse = np.linalg.inv((a[:, free].T @ a[:, free]).numpy())
        np.testing.assert_allclose(spread[free, column], np.diag(inverse) ** 0.5, rtol=1e-6)


def test_few_together_are_as_many(monkeypatch):
    a, _, b = system(30, 20, 9, 1)
    together = nnls(a.T @ a, a.T @ b)
    monkeypatch.setattr(module, "MEMORY_BYTES", 2 * 20 * 20 * 8)
    apart = nnls(a.T @ a, a.T @ b)
    torch.testing.assert_close(together, apart)


def test_half_of_the_unknowns_zero_tells_more_than_least_squares():
    a, x, b = system(44, 40, 8, 3)
    found, _ = nnls(a.T @ a, a.T @ b)
    plain = torch.linalg.lstsq(a, b).solution
    assert (found - x).norm() < 0.5 * (plain - x).norm()
