from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import jacrev

from adversary.problem import sparse_jacobian
from adversary.problem.sparse_jacobian import SparseJacobian

LAYERS = {
    "convolution": lambda c: nn.Conv2d(c, 4, 3, padding=1),
    "strides": lambda c: nn.Conv2d(c, 4, (3, 5), stride=(2, 1), padding=(0, 2)),
    "pooled": lambda c: nn.Sequential(nn.Conv2d(c, 4, 3, 2, 1), nn.MaxPool2d(3, 2, 1)),
    "deep": lambda c: nn.Sequential(
        nn.Conv2d(c, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1), nn.ReLU()
    ),
    "whole image": lambda c: nn.Sequential(nn.Flatten(), nn.Linear(c * 7 * 9, 5)),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("seed", range(2))
def test_it_is_the_jacobian(kind, channels, seed):
    torch.manual_seed(seed)
    layer = LAYERS[kind](channels).double().requires_grad_(False)
    image = torch.rand(1, channels, 7, 9, dtype=torch.float64)
    found = SparseJacobian(layer, torch.zeros_like(image))(image)
    expected = jacrev(layer)(image).flatten(4).reshape(-1, image.numel()).numpy()
    np.testing.assert_allclose(found.toarray(), expected, atol=1e-12)


def test_its_share_is_what_an_output_sees_of_the_image():
    image = torch.zeros(1, 1, 8, 8)
    assert SparseJacobian(nn.Conv2d(1, 2, 2, 2), image).share == 4 / 64
    assert SparseJacobian(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), image).share == 1


def test_a_large_image_takes_no_more_tangents_than_a_window_has_pixels():
    layer = nn.Conv2d(1, 2, 3, padding=1).double().requires_grad_(False)
    calls = []

    def counted(images):
        calls.append(1)
        return layer(images)

    jacobian = SparseJacobian(counted, torch.zeros(1, 1, 24, 24, dtype=torch.float64))
    calls.clear()
    jacobian(torch.rand(1, 1, 24, 24, dtype=torch.float64))
    assert len(calls) == 1  # 9 tangents, worked out together


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", LAYERS)
def test_its_normal_equations(kind, channels):
    torch.manual_seed(0)
    layer = LAYERS[kind](channels).double().requires_grad_(False)
    image = torch.rand(1, channels, 7, 9, dtype=torch.float64)
    J = jacrev(layer)(image).flatten(4).reshape(-1, image.numel())
    weights = torch.rand(len(J), dtype=torch.float64)
    found = SparseJacobian(layer, torch.zeros_like(image)).normal(image, weights)
    expected = (weights[:, None] * J).T @ (weights[:, None] * J)
    for column, unit in enumerate(torch.eye(image.numel(), dtype=torch.float64)):
        torch.testing.assert_close(found.matvec(unit), expected[:, column], atol=1e-12, rtol=0)


def test_windows_cost_a_pass_for_every_row_and_column():
    layer = nn.Conv2d(1, 2, 3, padding=1).double().requires_grad_(False)
    passed = []

    def counted(images):
        passed.append(len(images))
        return layer(images)

    SparseJacobian(counted, torch.zeros(1, 1, 24, 20, dtype=torch.float64))
    assert sum(passed) == 24 + 20 + 1


@pytest.mark.parametrize(
    ("layer", "passes"),
    [
        (nn.Conv2d(1, 2, 5, stride=2, padding=2), 2 * (32 + 3) + 1),
        (nn.Conv2d(1, 2, 3, dilation=7), 2 * (32 + 3) + 1),  # 15 slices, of which 3 are seen
        (nn.Conv2d(1, 2, 3, dilation=10), 2 * (32 + 3 + 64 + 2) + 1),  # 21, more than 32 tell
    ],
    ids=["convolution", "holes", "too long for the first period"],
)
def test_windows_of_large_images_cost_fewer_passes_and_are_the_same(layer, passes, monkeypatch):
    image = torch.zeros(1, 1, 96, 70, dtype=torch.float64)
    passed = []

    def counted(images):
        passed.append(len(images))
        return layer.double()(images)

    quick = SparseJacobian(counted, image)
    assert sum(passed) == passes
    monkeypatch.setattr(sparse_jacobian, "LEAST_PERIOD", 128)
    slow = SparseJacobian(layer, image)
    for found, wanted in zip(quick._windowed, slow._windowed, strict=True):
        torch.testing.assert_close(found, wanted)


def test_pixels_in_doubt_are_those_that_the_worst_outputs_see():
    layer = nn.Conv2d(1, 2, 3).double().requires_grad_(False)
    jacobian = SparseJacobian(layer, torch.zeros(1, 1, 8, 9, dtype=torch.float64))
    residual = torch.full((2, 6, 7), 1e-3, dtype=torch.float64)
    residual[1, 2, 4] = 5.0
    residual[0, 3, 1] = 4.0
    residual[0, 0, 0] = 1.0  # less than a tenth of the misfit
    found = jacobian.in_doubt(residual.flatten()).view(8, 9)
    wanted = torch.zeros(8, 9, dtype=torch.bool)
    wanted[2:5, 4:7] = True
    wanted[3:6, 1:4] = True
    assert torch.equal(found, wanted)
