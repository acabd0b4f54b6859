"""Errors of the outputs against autograd's derivative of the loss."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from adversary.problem.losses import mean_loss, output_gradients


@pytest.mark.parametrize("loss", ["cross-entropy", "bce"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("soft", [False, True])
def test_errors_are_the_derivative_by_the_logits(loss, weighted, soft):
    draw = torch.Generator().manual_seed(4)
    logits = torch.randn(5, 6, generator=draw, dtype=torch.float64, requires_grad=True)
    truth = torch.randint(6, (5,), generator=draw)
    targets = functional.one_hot(truth, 6).double()
    if soft:
        targets = 0.8 * targets + 0.2 / 6
    weights = 0.2 + 4 * torch.rand(6, generator=draw, dtype=torch.float64) if weighted else None
    (gradient,) = torch.autograd.grad(mean_loss(logits, targets, loss, weights), logits)
    outputs = logits.detach().softmax(1) if loss == "cross-entropy" else logits.detach().sigmoid()
    scale = 5 if loss == "cross-entropy" else 5 * 6
    torch.testing.assert_close(output_gradients(outputs, targets, loss, weights), scale * gradient)
