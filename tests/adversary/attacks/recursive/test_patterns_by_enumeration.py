from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from adversary.attacks.recursive.patterns_by_enumeration import (
    MAX_COLUMNS,
    binary_factorizations,
    patch_positions,
)


def drawn(seed):
    return torch.Generator().manual_seed(seed)


def first(rows, weights, count):
    found = next(binary_factorizations(rows, weights, count), None)
    return found and found[:2]


def same(found, binary, seen, tolerance):
    """Whether M and R are those given, in another order."""
    units, patches = found
    order = (units.T[:, None] != binary.T[None]).sum(2).argmin(1)
    return torch.equal(units, binary[:, order]) and torch.allclose(
        patches, seen[order], atol=tolerance
    )


@pytest.mark.parametrize("noise", [0.0, 1e-5])
@pytest.mark.parametrize(("units", "count"), [(64, 1), (40, 4), (200, 9), (500, 12)])
@pytest.mark.parametrize("seed", range(2))
def test_patterns_are_found_from_the_space_that_they_span(seed, units, count, noise):
    draw = drawn(seed)
    binary = (torch.rand(units, count, generator=draw) < 0.5).double()
    signs = torch.randn(count, 1, generator=draw, dtype=torch.float64).sign()
    seen = signs * torch.rand(count, 30, generator=draw, dtype=torch.float64)
    weights = torch.rand(units, generator=draw, dtype=torch.float64) + 0.1
    errors = noise * torch.randn(units, 30, generator=draw, dtype=torch.float64)
    rows = binary @ seen + errors / weights[:, None]
    assert same(first(rows, weights, count), binary, seen, 1e-10 + 10 * noise)


def test_of_many_ways_those_are_left_in_which_a_relu_was_seen():
    # Two positions whose units differ little: their difference is of zeros and ones as well.
    draw = drawn(2)
    binary = torch.ones(40, 2, dtype=torch.float64)
    binary[:5, 1], binary[20:] = 0, 0
    seen = torch.rand(2, 30, generator=draw, dtype=torch.float64).relu()
    found = list(binary_factorizations(binary @ seen, torch.ones(40, dtype=torch.float64), 2))
    assert any(same(each[:2], binary, seen, 1e-10) for each in found)
    for units, patches, _ in found:
        torch.testing.assert_close(units @ patches, binary @ seen)
        assert ((patches >= -1e-9).all(1) | (patches <= 1e-9).all(1)).all()


def test_rows_that_count_for_nothing_may_hold_anything():
    draw = drawn(3)
    binary = (torch.rand(50, 3, generator=draw) < 0.5).double()
    seen = torch.rand(3, 20, generator=draw, dtype=torch.float64)
    rows, weights = binary @ seen, torch.ones(50, dtype=torch.float64)
    rows[7], weights[7] = 100.0, 0.0
    used = weights > 0
    units, patches = first(rows, weights, 3)
    assert same((units[used], patches), binary[used], seen, 1e-10)


def test_spaces_without_patterns_or_of_another_rank_have_none():
    draw = drawn(4)
    left = torch.randn(50, 3, generator=draw, dtype=torch.float64)
    right = torch.rand(3, 20, generator=draw, dtype=torch.float64)
    weights = torch.ones(50, dtype=torch.float64)
    assert first(left @ right, weights, 3) is None
    binary = (left > 0).double()
    assert first(binary @ right, weights, 4) is None
    assert first(binary @ right, weights, MAX_COLUMNS + 1) is None
    assert first(binary[:2] @ right, weights[:2], 3) is None


def patches_of(images, stride):
    """Return (B P, C, 3, 3) and the grid, images after each other."""
    size = images.shape[-1] // stride
    seen = functional.unfold(images, 3, padding=1, stride=stride)
    return seen.transpose(1, 2).reshape(-1, images.shape[1], 3, 3), (size, size)


@given(
    batch=st.integers(1, 3),
    size=st.sampled_from([2, 3, 4]),
    seed=st.integers(0, 10_000),
)
def test_patches_find_their_places(batch, size, seed):
    draw = drawn(seed)
    images = torch.rand(batch, 5, size, size, generator=draw, dtype=torch.float64)
    patches, grid = patches_of(images, 1)
    order = torch.randperm(len(patches), generator=draw)
    found = patch_positions(patches[order], (1, 1), grid)
    # Images come in any order, each whole, and positions as they were.
    assert found.sort().values.tolist() == list(range(len(patches)))
    area = size * size
    assert (found % area).tolist() == (order % area).tolist()
    images_found = {(int(a) // area, int(b) // area) for a, b in zip(order, found, strict=True)}
    assert len(images_found) == batch


def test_strides_of_less_than_the_kernel_still_overlap():
    images = torch.rand(1, 5, 8, 8, generator=drawn(0), dtype=torch.float64)
    patches, grid = patches_of(images, 2)
    order = torch.randperm(len(patches), generator=drawn(1))
    assert patch_positions(patches[order], (2, 2), grid).tolist() == order.tolist()


def test_patches_of_no_whole_image_have_no_places():
    patches = torch.rand(4, 5, 3, 3, generator=drawn(0), dtype=torch.float64)
    assert patch_positions(patches, (1, 1), (2, 2)) is None
    assert patch_positions(patches[..., :1, :1], (1, 1), (2, 2)) is None
    assert patch_positions(patches, (1, 1), (1, 1)).tolist() == [0, 1, 2, 3]
