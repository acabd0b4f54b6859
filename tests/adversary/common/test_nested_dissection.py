from __future__ import annotations

import pytest
import torch
from scipy.sparse import csr_array, eye_array

from adversary.common.nested_dissection import BlockSum, Dissection


def windows(shape, span, stride):
    """Return the pixels of square windows that cover an image."""
    pixels = torch.arange(shape[0] * shape[1] * shape[2]).view(shape)
    return [
        pixels[:, max(r, 0) : r + span, max(c, 0) : c + span].flatten()
        for r in range(1 - stride, shape[1], stride)
        for c in range(1 - stride, shape[2], stride)
    ]


def drawn(shape, span, stride, seed, dtype=torch.float64):
    """Return a sum of random blocks, and the same written out."""
    draw = torch.Generator().manual_seed(seed)
    places = windows(shape, span, stride)
    size = shape[0] * shape[1] * shape[2]
    dense, blocks = torch.zeros(size, size, dtype=torch.float64), []
    for at in places:
        rows = torch.randn(2 * len(at), len(at), generator=draw, dtype=torch.float64)
        blocks.append((rows.T @ rows).to(dtype))
        dense[at[:, None], at] += rows.T @ rows
    return BlockSum(Dissection(shape, places), blocks), dense


@pytest.mark.parametrize(
    ("shape", "span", "stride"),
    [((1, 40, 24), 7, 4), ((2, 17, 30), 3, 2), ((1, 9, 9), 9, 9), ((3, 1, 12), 2, 1)],
    ids=["several cuts", "colours", "one window", "a row"],
)
@pytest.mark.parametrize("seed", range(2))
def test_solutions_and_products_are_those_of_the_whole_matrix(shape, span, stride, seed):
    matrix, dense = drawn(shape, span, stride, seed)
    draw = torch.Generator().manual_seed(9)
    vectors = torch.randn(len(dense), 2, dtype=torch.float64, generator=draw)
    torch.testing.assert_close(matrix.matvec(vectors[:, 0]), dense @ vectors[:, 0])
    other = csr_array(eye_array(len(dense)))
    factor = matrix.factor(0.5, other, 3.0)
    assert factor is not None
    wanted = torch.linalg.solve(0.5 * dense + 3 * torch.eye(len(dense)), vectors)
    torch.testing.assert_close(factor.solve(vectors), wanted)
    torch.testing.assert_close(factor.solve(vectors[:, 0]), wanted[:, 0])


def test_in_float32_right_hand_sides_keep_their_range_and_precision():
    matrix, dense = drawn((1, 24, 24), 7, 4, 0, torch.float32)
    right = 1e60 * torch.ones(len(dense), dtype=torch.float64)
    factor = matrix.factor(1.0, csr_array(eye_array(len(dense))), 1.0)
    assert factor is not None
    wanted = torch.linalg.solve(dense + torch.eye(len(dense)), right)
    assert (factor.solve(right) - wanted).norm() < 1e-3 * wanted.norm()


def test_a_matrix_that_is_not_positive_definite_has_no_factor():
    matrix, _ = drawn((1, 12, 12), 5, 3, 0)
    assert matrix.factor(-1.0, csr_array(eye_array(144)), 1.0) is None


def test_the_factor_of_a_large_image_is_far_smaller_than_a_band():
    shape, span, stride = (1, 128, 128), 15, 8
    entries = Dissection(shape, windows(shape, span, stride)).entries
    assert entries < 0.6 * 128 * 128 * 14 * 128
