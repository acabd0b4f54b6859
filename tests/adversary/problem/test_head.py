from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from adversary import ThreatModel, TrainingRecipe
from adversary.problem.head import Head
from adversary.problem.problem import build_problem


@pytest.mark.parametrize("loss", ["cross-entropy", "bce"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_outputs_and_errors_give_the_gradient_of_the_loss(loss, weighted, seed):
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(5, 4, generator=draw, dtype=torch.float64).requires_grad_()
    targets = functional.one_hot(torch.randint(4, (5,), generator=draw), 4).double()
    weights = torch.rand(4, generator=draw, dtype=torch.float64) if weighted else None
    if loss == "bce":
        value = functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights)
    else:
        value = functional.cross_entropy(logits, targets, weight=weights, reduction="sum") / 5
        if weighted:  # torch divides by images for shares of classes too
            value = -(weights * targets * logits.log_softmax(1)).sum() / 5
    [expected] = torch.autograd.grad(value, logits)
    head = Head(loss=loss, class_weights=weights)
    found = head.errors(head.outputs(logits.detach()), targets) / head.terms(5, 4)
    torch.testing.assert_close(found, expected)


def test_a_problem_knows_its_last_layer(tiny_net, update):
    model = tiny_net()
    images, labels = torch.rand(1, 1, 8, 8), torch.tensor([1])
    seen = update(model, images, labels, TrainingRecipe(lr=0.1, batch_size=1))
    head = build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8)).head
    assert head.complete
    assert head.observed
    torch.testing.assert_close(head.layer[0], seen.sent[head.weight_name])
    torch.testing.assert_close(
        head.gradient[1],
        (seen.sent[head.bias_name] - seen.returned[head.bias_name]) / 0.1,
        rtol=1e-4, atol=1e-6,
    )  # fmt: skip
    assert {p.dtype for p in (*head.double().layer, *head.double().gradient)} == {torch.float64}


def test_of_a_head_without_a_bias_or_a_gradient_not_all_is_known():
    weight = nn.Linear(3, 2).weight.detach()
    assert not Head().observed
    assert not Head(weight=weight, weight_gradient=weight).complete
    assert Head(weight=weight, weight_gradient=weight).observed
    whole = Head(weight=weight, bias=weight[:, 0], weight_gradient=weight, bias_gradient=weight[0])
    assert whole.complete
