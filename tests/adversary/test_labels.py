from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from adversary import Prior, ThreatModel, TrainingRecipe, labels
from adversary.problem import pose


@pytest.mark.parametrize("outputs", [2, 3, 10])
@pytest.mark.parametrize("seed", range(4))
def test_idlg_reads_the_label_of_any_single_image(outputs, seed):
    logits = torch.randn(
        1, outputs, generator=torch.Generator().manual_seed(seed), requires_grad=True
    )
    for label in range(outputs):
        loss = functional.cross_entropy(logits, torch.tensor([label]))
        (gradient,) = torch.autograd.grad(loss, logits)
        assert labels.idlg(gradient[0]).tolist() == [label]


@pytest.mark.parametrize("seed", range(4))
def test_bce_sign_reads_every_label_of_a_single_image(seed):
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, 14, generator=draw, requires_grad=True)
    truth = (torch.rand(1, 14, generator=draw) > 0.5).float()
    loss = functional.binary_cross_entropy_with_logits(logits, truth)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.equal(labels.bce_sign(gradient[0]), truth)


@pytest.mark.parametrize("batch", [2, 5, 16])
@pytest.mark.parametrize("outputs", [2, 10])
def test_counts_are_exact_where_the_mean_output_is_known(batch, outputs):
    draw = torch.Generator().manual_seed(batch * outputs)
    logits = torch.randn(batch, outputs, generator=draw, requires_grad=True)
    truth = torch.randint(outputs, (batch,), generator=draw)
    loss = functional.cross_entropy(logits, truth)
    (gradient,) = torch.autograd.grad(loss, logits)
    found = labels.counts(gradient.sum(0), logits.detach().softmax(1).mean(0), batch)
    assert torch.equal(found, truth.bincount(minlength=outputs))


@pytest.mark.parametrize("batch", [2, 5, 16])
def test_bce_counts_are_exact_where_the_mean_output_is_known(batch):
    draw = torch.Generator().manual_seed(batch)
    logits = torch.randn(batch, 14, generator=draw, requires_grad=True)
    truth = (torch.rand(batch, 14, generator=draw) > 0.7).float()
    loss = functional.binary_cross_entropy_with_logits(logits, truth)
    (gradient,) = torch.autograd.grad(loss, logits)
    found = labels.bce_counts(gradient.sum(0), logits.detach().sigmoid().mean(0), batch)
    assert torch.equal(found, truth.sum(0).long())


@pytest.mark.parametrize("loss", ["cross-entropy", "bce"])
@pytest.mark.parametrize("batch", [1, 4])
def test_recovery_from_an_update_finds_how_often_each_label_occurs(tiny_net, update, loss, batch):
    model = tiny_net(outputs=3)
    draw = torch.Generator().manual_seed(batch)
    images = torch.rand(batch, 1, 8, 8, generator=draw)
    truth = torch.tensor([2, 0, 2, 1])[:batch]
    targets = truth if loss == "cross-entropy" else functional.one_hot(truth, 3).float()
    recipe = TrainingRecipe(lr=0.1, batch_size=batch, loss=loss)
    problem = pose(
        update(model, images, targets, recipe),
        ThreatModel(),
        model,
        image_shape=(1, 8, 8),
        prior=Prior(torch.rand(5, 1, 8, 8, generator=draw)),
    )
    found = labels.recover(problem)
    if loss == "cross-entropy":
        assert found.sort().values.tolist() == truth.sort().values.tolist()
    else:
        assert found.sum(0).tolist() == targets.sum(0).tolist()


def test_granted_labels_are_used_as_they_are(tiny_net, update):
    model = tiny_net()
    seen = update(
        model, torch.rand(2, 1, 8, 8), torch.tensor([0, 1]), TrainingRecipe(lr=1, batch_size=2)
    )
    granted = ThreatModel(labels=torch.tensor([2, 2]))
    problem = pose(seen, granted, model, image_shape=(1, 8, 8))
    assert labels.recover(problem).tolist() == [2, 2]
    assert granted.oracles() == ("labels known",)
    assert ThreatModel().oracles() == ()
