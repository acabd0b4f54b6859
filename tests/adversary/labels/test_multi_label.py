from __future__ import annotations

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch.nn import functional

from adversary import Prior, ThreatModel, TrainingRecipe
from adversary.labels import recovery
from adversary.labels.multi_label import multi_labels
from adversary.problem.head import Head
from adversary.problem.problem import build_problem


def head_of(encodings, truth, seed, scale, class_weights=None):
    draw = torch.Generator().manual_seed(seed)
    shape = (truth.shape[1], encodings.shape[1])
    weight = (scale * torch.randn(shape, generator=draw, dtype=torch.float64)).requires_grad_()
    bias = (scale * torch.randn(len(weight), generator=draw, dtype=torch.float64)).requires_grad_()
    logits = encodings @ weight.T + bias
    loss = functional.binary_cross_entropy_with_logits(logits, truth, pos_weight=class_weights)
    found = torch.autograd.grad(loss, (weight, bias))
    return Head(
        loss="bce", class_weights=class_weights, weight=weight.detach(), bias=bias.detach(),
        weight_gradient=found[0], bias_gradient=found[1],
    )  # fmt: skip


def rows_in_error(found, truth):
    errors = torch.cdist(found, truth, p=1)
    return int((errors[linear_sum_assignment(errors.numpy())] > 0).sum())


def sparse_labels(batch, outputs, seed):
    """Return labels of which about half the images have none, as in ChestX-ray14."""
    draw = torch.Generator().manual_seed(100 + seed)
    truth = torch.rand(batch, outputs, generator=draw) < 0.2
    return (truth & (torch.rand(batch, 1, generator=draw) < 0.6)).double()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("batch", "outputs"), [(2, 5), (4, 14), (6, 14)])
@pytest.mark.parametrize("scale", [0.01, 0.1])
def test_labels_are_found_together_in_their_images(batch, outputs, seed, scale):
    truth = sparse_labels(batch, outputs, seed)
    draw = torch.Generator().manual_seed(seed)
    encodings = torch.rand(batch, 40, generator=draw, dtype=torch.float64)
    head = head_of(encodings, truth, seed, scale)
    counts = truth.sum(0).long()
    found = multi_labels(head, counts, batch, noise=1e-9)
    assert torch.equal(found.sum(0).long(), counts)
    assert rows_in_error(found, truth) <= 2 * (batch > 4)  # one label in the wrong image
    stacked = (torch.arange(batch)[:, None] < counts).double()
    assert rows_in_error(found, truth) <= rows_in_error(stacked, truth)


@pytest.mark.parametrize("seed", range(3))
def test_class_weights_are_allowed_for(seed):
    truth = sparse_labels(4, 14, seed)
    draw = torch.Generator().manual_seed(seed)
    encodings = torch.rand(4, 40, generator=draw, dtype=torch.float64)
    weights = 0.5 + 10 * torch.rand(14, generator=draw, dtype=torch.float64)
    head = head_of(encodings, truth, seed, 0.1, weights)
    found = multi_labels(head, truth.sum(0).long(), 4, noise=1e-9)
    assert rows_in_error(found, truth) == 0


def test_images_are_not_told_apart_in_vain():
    """Equal encodings: labels on one image or on two explain the gradient, one is simpler."""
    truth = torch.tensor([[1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]]).double()
    encodings = torch.rand(2, 20, dtype=torch.float64).sort(0).values
    found = multi_labels(head_of(encodings, truth, 1, 0.01), truth.sum(0).long(), 2, noise=1e-9)
    assert rows_in_error(found, truth) == 0


def test_no_labels_at_all_and_labels_everywhere():
    encodings = torch.rand(3, 20, dtype=torch.float64)
    for value in (0.0, 1.0):
        truth = torch.full((3, 6), value, dtype=torch.float64)
        head = head_of(encodings, truth, 0, 0.01)
        found = multi_labels(head, truth.sum(0).long(), 3, noise=1e-9)
        assert torch.equal(found, truth)


@pytest.mark.parametrize("withheld", [None, "head.weight"])
def test_recovery_uses_it_where_the_whole_head_was_sent(tiny_net, update, withheld):
    model = tiny_net(outputs=8)
    truth = torch.zeros(3, 8)
    truth[0, 1] = truth[1, 5] = truth[1, 6] = 1
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    recipe = TrainingRecipe(lr=0.1, batch_size=3, loss="bce")
    seen = update(model, images, truth, recipe)
    seen.returned.pop(withheld, None)
    problem = build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8), prior=Prior(images))
    found = recovery.recover(problem).double()
    assert found.sum(0).tolist() == truth.sum(0).tolist()
    assert rows_in_error(found, truth.double()) == (0 if withheld is None else 2)
