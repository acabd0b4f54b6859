from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import jacrev

from adversary.problem.linearised import Linearised


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("scale", [1.0, 1e100], ids=["plain", "beyond float32"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_are_those_of_the_jacobian(seed, scale, dtype):
    torch.manual_seed(seed)
    layer = nn.Sequential(nn.Conv2d(2, 4, 3, 2, 1), nn.GELU(), nn.Conv2d(4, 3, 3), nn.Tanh())
    layer = layer.double().requires_grad_(False)
    image = torch.rand(1, 2, 9, 7, dtype=torch.float64)
    J = jacrev(layer)(image).reshape(-1, image.numel())
    v, u = (scale * torch.randn(k, dtype=torch.float64) for k in (J.shape[1], J.shape[0]))
    found = Linearised(layer.to(dtype), image.to(dtype))
    close = 1e-12 if dtype == torch.float64 else 1e-5
    for product, wanted in [(found.push(v), J @ v), (found.pull(u), J.T @ u)]:
        assert product.dtype == torch.float64
        assert (product - wanted).norm() < close * wanted.norm()
    assert not found.push(torch.zeros_like(v)).any()
