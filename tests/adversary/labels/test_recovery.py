from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from adversary import Prior, ThreatModel, TrainingRecipe
from adversary.labels import recovery
from adversary.problem.head import Head
from adversary.problem.problem import build_problem


@pytest.mark.parametrize("outputs", [2, 3, 10])
@pytest.mark.parametrize("seed", range(4))
def test_idlg_reads_the_label_of_any_single_image(outputs, seed):
    logits = torch.randn(
        1, outputs, generator=torch.Generator().manual_seed(seed), requires_grad=True
    )
    for label in range(outputs):
        loss = functional.cross_entropy(logits, torch.tensor([label]))
        (gradient,) = torch.autograd.grad(loss, logits)
        assert recovery.idlg(gradient[0]).tolist() == [label]


@pytest.mark.parametrize("seed", range(4))
def test_bce_sign_reads_every_label_of_a_single_image(seed):
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, 14, generator=draw, requires_grad=True)
    truth = (torch.rand(1, 14, generator=draw) > 0.5).float()
    loss = functional.binary_cross_entropy_with_logits(logits, truth)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.equal(recovery.bce_sign(gradient[0]), truth)


@pytest.mark.parametrize("batch", [2, 5, 16])
@pytest.mark.parametrize("outputs", [2, 10])
def test_counts_are_exact_where_the_mean_output_is_known(batch, outputs):
    draw = torch.Generator().manual_seed(batch * outputs)
    logits = torch.randn(batch, outputs, generator=draw, requires_grad=True)
    truth = torch.randint(outputs, (batch,), generator=draw)
    loss = functional.cross_entropy(logits, truth)
    (gradient,) = torch.autograd.grad(loss, logits)
    found = recovery.label_counts(gradient.sum(0), logits.detach().softmax(1).mean(0), batch)
    assert torch.equal(found, truth.bincount(minlength=outputs))


@pytest.mark.parametrize("batch", [2, 5, 16])
def test_bce_counts_are_exact_where_the_mean_output_is_known(batch):
    draw = torch.Generator().manual_seed(batch)
    logits = torch.randn(batch, 14, generator=draw, requires_grad=True)
    truth = (torch.rand(batch, 14, generator=draw) > 0.7).float()
    loss = functional.binary_cross_entropy_with_logits(logits, truth)
    (gradient,) = torch.autograd.grad(loss, logits)
    found = recovery.bce_counts(gradient.sum(0), logits.detach().sigmoid().mean(0), batch)
    assert torch.equal(found, truth.sum(0).long())


@pytest.mark.parametrize("seed", range(5))
def test_counts_allow_for_class_weights(seed):
    """Outputs that hardly differ by image, as those of an untrained network."""
    draw = torch.Generator().manual_seed(seed)
    weights = torch.rand(10, generator=draw) * 5 + 0.2
    logits = torch.randn(10, generator=draw) + 0.01 * torch.randn(12, 10, generator=draw)
    logits.requires_grad_()
    truth = torch.randint(10, (12,), generator=draw)
    expected = truth.bincount(minlength=10)
    one_hot = functional.one_hot(truth, 10).float()
    loss = functional.cross_entropy(logits, one_hot, weight=weights)
    (gradient,) = torch.autograd.grad(loss, logits)
    output = logits.detach().softmax(1).mean(0)
    assert torch.equal(recovery.label_counts(gradient.sum(0), output, 12, weights), expected)
    assert not torch.equal(recovery.label_counts(gradient.sum(0), output, 12), expected)


@pytest.mark.parametrize("seed", range(5))
def test_bce_counts_allow_for_class_weights(seed):
    draw = torch.Generator().manual_seed(seed)
    weights = torch.rand(14, generator=draw) * 9 + 0.2
    logits = torch.randn(14, generator=draw) + 0.01 * torch.randn(8, 14, generator=draw)
    logits.requires_grad_()
    truth = (torch.rand(8, 14, generator=draw) > 0.7).float()
    loss = functional.binary_cross_entropy_with_logits(logits, truth, pos_weight=weights)
    (gradient,) = torch.autograd.grad(loss, logits)
    output = logits.detach().sigmoid().mean(0)
    found = recovery.bce_counts(gradient.sum(0), output, 8, weights)
    assert torch.equal(found, truth.sum(0).long())


@pytest.mark.parametrize("rule", recovery.RULES)
@pytest.mark.parametrize("batch", [1, 3])
def test_every_rule_allows_for_class_weights(tiny_net, update, rule, batch):
    weights = (0.3, 1.0, 4.0, 9.0, 1.0, 0.5, 2.0, 1.0)
    truth = torch.tensor([5, 0, 3])[:batch]
    recipe = TrainingRecipe(lr=0.1, batch_size=batch, class_weights=weights)
    model = tiny_net(outputs=8)
    images = torch.rand(batch, 1, 8, 8, generator=torch.Generator().manual_seed(batch))
    problem = build_problem(update(model, images, truth, recipe), ThreatModel(), model,
                   image_shape=(1, 8, 8))  # fmt: skip
    assert recovery.recover(problem, rule).tolist() == truth.sort().values.tolist()


def head_gradients(encodings, truth, outputs, seed=0, scale=1.0, class_weights=None):
    """Return a last layer's (W, b, G_W, G_b, P) for given encodings and labels, by autograd."""
    draw = torch.Generator().manual_seed(seed)
    weight = scale * torch.randn(outputs, encodings.shape[1], generator=draw, dtype=torch.float64)
    bias = scale * torch.randn(outputs, generator=draw, dtype=torch.float64)
    weight.requires_grad_(), bias.requires_grad_()
    logits = encodings @ weight.T + bias
    one_hot = functional.one_hot(truth, outputs).double()
    loss = functional.cross_entropy(logits, one_hot, weight=class_weights)
    found = torch.autograd.grad(loss, (weight, bias))
    return weight.detach(), bias.detach(), *found, logits.detach().softmax(1)


@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("seed", range(3))
def test_the_column_minimum_finds_distinct_labels(batch, seed):
    draw = torch.Generator().manual_seed(seed)
    truth = torch.randperm(20, generator=draw)[:batch]
    encodings = torch.rand(batch, 30, generator=draw, dtype=torch.float64)
    _, _, gradient, _, _ = head_gradients(encodings, truth, 20, seed, scale=0.01)
    lowest = sorted(range(20), key=lambda c: min(gradient[c].tolist()))[:batch]
    found = recovery.column_minimum(gradient, batch)
    assert found.tolist() == sorted(lowest)
    assert found.tolist() == sorted(truth.tolist())


def test_the_column_minimum_is_that_of_the_deepest_entry_and_not_of_the_sum():
    gradient = torch.tensor([[-1.0, -1.0, -1.0], [-5.0, 9.0, 9.0], [-2.0, 0.0, 9.0]])
    assert recovery.column_minimum(gradient, 1).tolist() == [1]
    assert recovery.column_minimum(gradient, 2).tolist() == [1, 2]


def test_the_column_minimum_refuses_more_images_than_classes():
    with pytest.raises(ValueError, match="batch = 4: at most 3 labels can be distinct"):
        recovery.column_minimum(torch.randn(3, 5), 4)


def test_the_weights_tell_the_bias_gradient_of_a_single_encoding():
    encodings = torch.rand(1, 12, dtype=torch.float64).expand(4, -1)
    _, _, G_W, G_b, _ = head_gradients(encodings, torch.tensor([0, 2, 2, 4]), 6)
    torch.testing.assert_close(recovery.bias_gradient(G_W, encodings[0]), G_b)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("weighted", [False, True])
def test_consistent_counts_do_without_a_good_estimate_of_the_output(seed, weighted):
    """A sharp model whose outputs differ widely by image: a uniform mean output misleads."""
    weights = torch.linspace(0.3, 5, 20, dtype=torch.float64) if weighted else None
    draw = torch.Generator().manual_seed(seed)
    means = torch.rand(20, 60, generator=draw, dtype=torch.float64)
    truth = torch.randint(20, (12,), generator=draw)
    encodings = means[truth] + 0.01 * torch.rand(12, 60, generator=draw, dtype=torch.float64)
    W, b, G_W, G_b, P = head_gradients(encodings, truth, 20, seed, 0.3, weights)
    uniform = torch.full((20,), 1 / 20, dtype=torch.float64)
    expected = truth.bincount(minlength=20)
    assert not torch.equal(recovery.label_counts(G_b, uniform, 12, weights), expected)
    assert weighted or torch.equal(recovery.label_counts(G_b, P.mean(0), 12), expected)
    head = Head(weight=W, bias=b, weight_gradient=G_W, bias_gradient=G_b, class_weights=weights)
    found = recovery.jointly_estimated_counts(head, uniform, 12)
    assert torch.equal(found, expected)


def test_consistent_counts_are_the_plain_ones_where_every_class_occurs():
    truth = torch.tensor([0, 1, 2, 1])
    encodings = torch.rand(4, 6, dtype=torch.float64)
    W, b, G_W, G_b, P = head_gradients(encodings, truth, 3, scale=0.1)
    estimate = P.mean(0)
    head = Head(weight=W, bias=b, weight_gradient=G_W, bias_gradient=G_b)
    found = recovery.jointly_estimated_counts(head, estimate, 4)
    assert torch.equal(found, recovery.label_counts(G_b, estimate, 4))


@pytest.mark.parametrize("rule", recovery.RULES)
@pytest.mark.parametrize("withheld", [None, "head.weight", "head.bias"])
@pytest.mark.parametrize("batch", [1, 3, 9])
def test_every_rule_reads_what_was_sent(tiny_net, update, rule, withheld, batch):
    model = tiny_net(outputs=8)
    truth = torch.tensor([5, 0, 3, 1, 2, 4, 6, 7, 7])[:batch]
    recipe = TrainingRecipe(lr=0.1, batch_size=batch)
    images = torch.rand(batch, 1, 8, 8, generator=torch.Generator().manual_seed(batch))
    seen = update(model, images, truth, recipe)
    seen.returned.pop(withheld, None)
    problem = build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8))
    assert recovery.recover(problem, rule).tolist() == truth.sort().values.tolist()


@pytest.mark.parametrize("loss", ["cross-entropy", "bce"])
@pytest.mark.parametrize("batch", [1, 4])
def test_recovery_from_an_update_finds_how_often_each_label_occurs(tiny_net, update, loss, batch):
    model = tiny_net(outputs=3)
    draw = torch.Generator().manual_seed(batch)
    images = torch.rand(batch, 1, 8, 8, generator=draw)
    truth = torch.tensor([2, 0, 2, 1])[:batch]
    targets = truth if loss == "cross-entropy" else functional.one_hot(truth, 3).float()
    recipe = TrainingRecipe(lr=0.1, batch_size=batch, loss=loss)
    problem = build_problem(
        update(model, images, targets, recipe),
        ThreatModel(),
        model,
        image_shape=(1, 8, 8),
        prior=Prior(torch.rand(5, 1, 8, 8, generator=draw)),
    )
    found = recovery.recover(problem)
    if loss == "cross-entropy":
        assert found.sort().values.tolist() == truth.sort().values.tolist()
    else:
        assert found.sum(0).tolist() == targets.sum(0).tolist()


@pytest.mark.parametrize("rule", ["zero-shot", "consistent"])
def test_the_mean_output_is_taken_from_public_images_where_there_are_any(tiny_net, update, rule):
    model = tiny_net(seed=2)
    with torch.no_grad():  # outputs that depend on how bright an image is
        for layer, factor in ((model.body[0], 10), (model.body[3], 10), (model.head, 3)):
            layer.weight.mul_(factor)
    draw = torch.Generator().manual_seed(2)
    public, images = (0.1 * torch.rand(n, 1, 8, 8, generator=draw) for n in (8, 6))  # dark ones
    truth = torch.tensor([0, 0, 1, 1, 1, 2])
    seen = update(model, images, truth, TrainingRecipe(lr=0.1, batch_size=6))
    found = {}
    for told, prior in {"public": Prior(public), "nothing": None}.items():
        problem = build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8), prior=prior)
        found[told] = recovery.recover(problem, rule).sort().values.tolist()
    assert found["public"] == truth.tolist()
    assert found["nothing"] != truth.tolist()  # so it did matter


def test_granted_labels_are_used_as_they_are(tiny_net, update):
    model = tiny_net()
    seen = update(
        model, torch.rand(2, 1, 8, 8), torch.tensor([0, 1]), TrainingRecipe(lr=1, batch_size=2)
    )
    granted = ThreatModel(labels=torch.tensor([2, 2]))
    problem = build_problem(seen, granted, model, image_shape=(1, 8, 8))
    assert recovery.recover(problem).tolist() == [2, 2]
    assert granted.oracles() == ("labels known",)
    assert ThreatModel().oracles() == ()
