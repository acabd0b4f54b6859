from __future__ import annotations

import numpy as np
import pytest
import torch

from adversary.common.banded import Banded


def drawn(size, half_width, seed):
    """Return a banded matrix, positive definite by its diagonal, and the same written out."""
    draw = np.random.default_rng(seed)
    entries = np.tril(np.triu(draw.standard_normal((size, size)), 0), half_width)
    dense = entries + entries.T + 4 * size**0.5 * np.eye(size)
    found = Banded.zeros(size, half_width)
    for row in range(size - half_width):
        places = np.arange(row, row + half_width + 1)
        block = np.zeros((half_width + 1, half_width + 1))
        block[0] = dense[row, places]
        block[:, 0] = dense[places, row]
        found.add(places, block)
    last = np.arange(size - half_width, size)
    found.add(last, dense[np.ix_(last, last)])
    return found, torch.from_numpy(dense)


@pytest.mark.parametrize(("size", "half_width"), [(12, 3), (12, 1), (9, 8)])
def test_products_and_solutions_are_those_of_the_whole_matrix(size, half_width):
    matrix, dense = drawn(size, half_width, 0)
    vectors = torch.randn(size, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(matrix.matvec(vectors[:, 0]), dense @ vectors[:, 0])
    factor = matrix.factor()
    assert factor is not None
    torch.testing.assert_close(factor.solve(vectors), torch.linalg.solve(dense, vectors))
    np.testing.assert_allclose(matrix.diagonal, dense.diagonal())


def test_a_narrower_matrix_can_be_added():
    matrix, dense = drawn(10, 4, 0)
    narrow, other = drawn(10, 1, 1)
    ones = torch.ones(10, dtype=torch.float64)
    both = matrix.plus(narrow, 0.5, 3.0)
    torch.testing.assert_close(both.matvec(ones), (0.5 * dense + 3 * other) @ ones)
    torch.testing.assert_close(matrix.matvec(ones), dense @ ones)


def test_a_shift_adds_to_the_diagonal_alone():
    matrix, dense = drawn(6, 2, 0)
    ones = torch.ones(6, dtype=torch.float64)
    torch.testing.assert_close(matrix.shifted(2.0).matvec(ones), dense @ ones + 2)
    torch.testing.assert_close(matrix.matvec(ones), dense @ ones)


def test_a_matrix_that_is_not_positive_definite_has_no_factor():
    matrix, _ = drawn(6, 2, 0)
    assert matrix.plus(matrix, -1.0, 0.0).factor() is None
