"""Linear systems by conjugate gradients beside their direct solution."""

from __future__ import annotations

import pytest
import torch

from adversary.optim.conjugate_gradients import batched_conjugate_gradients


@pytest.mark.parametrize("preconditioned", [False, True])
def test_all_of_several_systems_are_solved_though_one_is_at_once(preconditioned):
    draws = torch.Generator().manual_seed(0)
    root = torch.randn(12, 12, generator=draws, dtype=torch.float64)
    matrix = root @ root.T + torch.eye(12)
    scale = matrix.diagonal().rsqrt() if preconditioned else torch.ones(12)
    rights = torch.randn(3, 12, generator=draws, dtype=torch.float64)
    rights[1] = matrix @ torch.linalg.eigh(scale[:, None] * matrix * scale).eigenvectors[:, 4]
    rights[2] = 0.0
    found, solved = batched_conjugate_gradients(
        lambda rows: rows @ matrix,
        rights,
        lambda rows: rows * scale.square(),
        enough=1e-16,
        iterations=40,
    )
    assert solved
    torch.testing.assert_close(found, torch.linalg.solve(matrix, rights.T).T, atol=1e-6, rtol=1e-6)
    few, solved = batched_conjugate_gradients(
        lambda rows: rows @ matrix, rights, lambda rows: rows, enough=1e-16, iterations=2
    )
    assert not solved
    assert torch.isfinite(few).all()
