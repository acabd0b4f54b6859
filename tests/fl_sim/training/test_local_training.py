"""Local training against closed forms, and the order of a client's images."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score
from sklearn.utils import compute_class_weight
from torch import nn

from adversary.observation.recipe import TrainingRecipe
from fl_sim.federation import recipe_from
from fl_sim.models import create
from fl_sim.settings.parse import parse
from fl_sim.training.evaluation import evaluate, macro_auc
from fl_sim.training.local_training import (
    TrainingError,
    balanced_class_weights,
    make_loss,
    minibatches,
    train,
)

RECIPE = TrainingRecipe(lr=0.1, batch_size=2)


def data(count=6, classes=3, size=8, seed=0):
    random = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 1, size, size, generator=random, dtype=torch.float64)
    return images, torch.randint(classes, (count,), generator=random)


def linear(features=64, outputs=3):
    model = nn.Sequential(nn.Flatten(), nn.Linear(features, outputs)).double()
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.copy_(torch.linspace(-0.1, 0.1 + i, p.numel()).view_as(p))
    return model


def softmax_gradient(model, x, y):
    """Closed form of the cross-entropy's gradient: (p - y) h^T / B and (p - y) / B."""
    p = model(x).softmax(1).detach()
    p[torch.arange(len(y)), y] -= 1
    return (p.T @ x.flatten(1) / len(y), p.mean(0))


@pytest.mark.parametrize(("over", "expected"), [("steps", "cosine"), ("rounds", "constant")])
def test_a_schedule_over_rounds_keeps_its_rate_within_a_round(over, expected):
    settings = parse(
        {"local.schedule": "cosine", "local.schedule-over": over, "local.max-steps": 5}
    )
    assert recipe_from(settings).schedule == expected


def test_the_recipe_repeats_the_settings():
    settings = parse(
        {
            "local.lr": 0.3,
            "local.batch-size": 4,
            "local.epochs": 2,
            "local.max-steps": 5,
            "local.momentum": 0.9,
            "local.weight-decay": 0.01,
            "local.optimizer": "adam",
            "local.drop-last": True,
            "local.schedule": "step",
            "local.schedule-over": "steps",
            "local.decay": 0.5,
            "local.decay-every": 3,
            "model.loss": "bce",
            "model.batch-norm": "eval",
        }
    )
    assert recipe_from(settings) == TrainingRecipe(
        lr=0.3,
        batch_size=4,
        loss="bce",
        local_epochs=2,
        max_steps=5,
        momentum=0.9,
        weight_decay=0.01,
        batch_norm="eval",
        optimizer="adam",
        drop_last=True,
        schedule="step",
        decay=0.5,
        decay_every=3,
    )


@given(
    images=st.integers(1, 30),
    batch=st.integers(1, 30),
    epochs=st.integers(1, 3),
    max_steps=st.integers(0, 12),
    round=st.integers(1, 50),
    seed=st.integers(0, 5),
    drop_last=st.booleans(),
)
def test_a_round_uses_what_the_recipe_says(
    images, batch, epochs, max_steps, round, seed, drop_last
):
    batch = min(batch, images)
    recipe = replace(
        RECIPE, batch_size=batch, local_epochs=epochs, max_steps=max_steps, drop_last=drop_last
    )
    drawn = minibatches(images, recipe, seed=seed, round=round, client=1)
    again = minibatches(images, recipe, seed=seed, round=round, client=1)
    assert len(drawn) == recipe.steps(images)
    assert all(torch.equal(a, b) for a, b in zip(drawn, again, strict=True))
    for indices in drawn:
        assert 1 <= len(indices) <= batch
        assert len(indices) == batch or not drop_last
        assert len(set(indices.tolist())) == len(indices)
    used = torch.cat(drawn)
    assert 0 <= int(used.min()) <= int(used.max()) < images
    assert len(used.unique()) == recipe.images(images)


@pytest.mark.parametrize(
    ("images", "batch", "changes"),
    [
        (5, 1, {"max_steps": 1}),
        (7, 2, {"max_steps": 1}),
        (10, 2, {"max_steps": 3}),
        (7, 3, {"drop_last": True}),
        (7, 3, {"drop_last": True, "local_epochs": 2}),
    ],
)
def test_rounds_that_leave_images_out_give_each_its_turn(images, batch, changes):
    recipe = replace(RECIPE, batch_size=batch, **changes)
    rounds = -(-images // recipe.images(images))
    for first in (1, 4):
        used = [
            minibatches(images, recipe, seed=3, round=r, client=0)
            for r in range(first, first + rounds)
        ]
        assert torch.cat([b for r in used for b in r]).unique().tolist() == list(range(images))


def test_every_epoch_round_client_and_seed_shuffles_anew():
    recipe = replace(RECIPE, batch_size=20, local_epochs=2)

    def drawn(seed=1, round=1, client=0):
        return minibatches(20, recipe, seed=seed, round=round, client=client)

    orders = [*drawn(), *drawn(seed=2), *drawn(round=2), *drawn(client=1)]
    assert len({tuple(o.tolist()) for o in orders}) == 8


def test_a_hospital_smaller_than_a_batch_trains_on_what_it_has():
    [only] = minibatches(5, replace(RECIPE, batch_size=8), seed=1, round=1, client=3)
    assert sorted(only.tolist()) == [0, 1, 2, 3, 4]


def test_full_batches_larger_than_the_data_are_named():
    with pytest.raises(TrainingError) as error:
        minibatches(5, replace(RECIPE, batch_size=8, drop_last=True), seed=1, round=1, client=3)
    assert str(error.value) == ("local.batch-size = 8: client 3 has only 5 images, so at most 5")


def test_a_client_without_images_is_named():
    with pytest.raises(TrainingError, match="client 3 has no images"):
        minibatches(0, RECIPE, seed=1, round=1, client=3)


def test_one_step_moves_the_weights_by_the_gradient():
    x, y = data()
    model = linear()
    sent = [p.detach().clone() for p in model.parameters()]
    expected = softmax_gradient(model, x, y)
    logits = model(x).detach()
    loss = train(model, x, y, RECIPE, [torch.arange(6)], device="cpu")
    for before, after, gradient in zip(sent, model.parameters(), expected, strict=True):
        torch.testing.assert_close((before - after.detach()) / RECIPE.lr, gradient)
    assert loss == pytest.approx(float(nn.functional.cross_entropy(logits, y)), rel=1e-12)


def test_binary_cross_entropy_is_the_mean_over_labels_too():
    x, _ = data()
    y = torch.tensor([[0, 1, 1], [1, 0, 0]] * 3)
    model = linear()
    sent = model[1].weight.detach().clone()
    p = model(x).sigmoid().detach()
    gradient = (p - y).T @ x.flatten(1) / y.numel()
    train(model, x, y, replace(RECIPE, loss="bce"), [torch.arange(6)], device="cpu")
    torch.testing.assert_close((sent - model[1].weight.detach()) / RECIPE.lr, gradient)


def test_binary_labels_may_come_without_an_axis():
    x, y = data(classes=2)
    recipe = replace(RECIPE, loss="bce")
    flat, column = linear(outputs=1), linear(outputs=1)
    train(flat, x, y, recipe, [torch.arange(6)], device="cpu")
    train(column, x, y[:, None], recipe, [torch.arange(6)], device="cpu")
    assert torch.equal(flat[1].weight, column[1].weight)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
@pytest.mark.parametrize("mu", [0.0, 0.7])
def test_steps_follow_the_rule_of_sgd_by_hand(momentum, weight_decay, mu):
    x, y = data()
    drawn = [torch.tensor([0, 1]), torch.tensor([2, 3]), torch.tensor([4, 5])]
    model, hand = linear(), linear()
    sent = [p.detach().clone() for p in hand.parameters()]
    velocity = [torch.zeros_like(p) for p in sent]
    for batch in drawn:
        gradients = softmax_gradient(hand, x[batch], y[batch])
        with torch.no_grad():
            for p, g, v, s in zip(hand.parameters(), gradients, velocity, sent, strict=True):
                v.mul_(momentum).add_(g + weight_decay * p + mu * (p - s))
                p.sub_(RECIPE.lr * v)
    recipe = replace(RECIPE, momentum=momentum, weight_decay=weight_decay)
    train(model, x, y, replace(recipe, proximal_mu=mu), drawn, device="cpu")
    for ours, theirs in zip(model.parameters(), hand.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_loss_is_the_mean_over_images_without_the_proximal_term():
    x, y = data(3)
    recipe = replace(RECIPE, lr=1e-12)  # the weights stand still
    loss = train(linear(), x, y, recipe, list(torch.arange(3).split(2)), device="cpu")
    with torch.no_grad():
        expected = nn.functional.cross_entropy(linear()(x), y)
    assert loss == pytest.approx(float(expected), rel=1e-9)


def test_equal_inputs_give_equal_bits():
    x, y = data(size=32)
    start = create("convnet", channels=1, image_size=32, outputs=3)
    runs = []
    for _ in range(2):
        model = copy.deepcopy(start)
        torch.rand(1)  # the global generator has no say
        loss = train(model, x.float(), y, RECIPE, list(torch.arange(6).split(2)), device="cpu")
        runs.append((loss, model.state_dict()))
    assert runs[0][0] == runs[1][0]
    assert all(torch.equal(v, runs[1][1][k]) for k, v in runs[0][1].items())


@pytest.mark.parametrize(("mode", "counted"), [("train", 3), ("eval", 0)])
def test_batch_norm_follows_the_recipe(mode, counted):
    x, y = data()
    model = nn.Sequential(nn.BatchNorm2d(1), linear()).double()
    weight = model[0].weight.detach().clone()
    recipe = replace(RECIPE, batch_norm=mode)
    train(model, x, y, recipe, list(torch.arange(6).split(2)), device="cpu")
    assert int(model[0].num_batches_tracked) == counted
    assert not torch.equal(model[0].weight, weight)


def test_batch_norm_over_a_single_value_is_named():
    model = create("resnet18", channels=1, image_size=32, outputs=2)
    x, y = data(1, 2, size=32)
    with pytest.raises(TrainingError, match=r"model.batch-norm = 'train': .* 1 images of 32"):
        train(model, x.float(), y, RECIPE, [torch.tensor([0])], device="cpu")


@pytest.mark.parametrize("batch_size", [4, 256])
def test_evaluation_of_classes(batch_size):
    x, y = data(40)
    model = linear()
    got = evaluate(model, x, y, "cross-entropy", device="cpu", batch_size=batch_size)
    with torch.no_grad():
        p = model(x).softmax(1)
    assert got.num_examples == 40
    assert got.loss == pytest.approx(float(-p[torch.arange(40), y].log().mean()))
    assert got.accuracy == pytest.approx(np.mean(p.argmax(1).numpy() == y.numpy()))
    assert got.auc == pytest.approx(
        roc_auc_score(y.numpy(), p.numpy(), multi_class="ovr", average="macro")
    )


def test_evaluation_of_labels():
    x, _ = data(30)
    y = (torch.arange(90).view(30, 3) % torch.tensor([2, 5, 7]) == 0).long()
    got = evaluate(linear(), x, y, "bce", device="cpu")
    with torch.no_grad():
        p = linear()(x).sigmoid()
    assert got.accuracy == pytest.approx(np.mean((p > 0.5).numpy() == y.numpy()))
    assert got.auc == pytest.approx(roc_auc_score(y.numpy(), p.numpy(), average="macro"))


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=20))
def test_auc_is_the_chance_of_ranking_a_pair_right(rows):
    scores = torch.tensor([[float(s)] for s, _ in rows])
    truth = torch.tensor([[int(t)] for _, t in rows])
    positive = [s for s, t in rows if t]
    negative = [s for s, t in rows if not t]
    auc = macro_auc(scores, truth)
    if not positive or not negative:
        assert auc is None
    else:
        u = mannwhitneyu(positive, negative).statistic
        assert auc == pytest.approx(u / len(positive) / len(negative))


def test_auc_leaves_out_classes_without_both_kinds():
    scores = torch.tensor([[0.1, 0.5, 0.9], [0.2, 0.4, 0.3], [0.7, 0.1, 0.1]])
    truth = torch.tensor([[1, 0, 0], [0, 0, 1], [1, 0, 0]])
    expected = (roc_auc_score([1, 0, 1], scores[:, 0]) + roc_auc_score([0, 1, 0], scores[:, 2])) / 2
    assert macro_auc(scores, truth) == pytest.approx(expected)
    assert macro_auc(scores * torch.nan, truth) is None


def test_evaluating_on_nothing_is_an_error():
    with pytest.raises(TrainingError, match="no images"):
        evaluate(linear(), *data(0), "cross-entropy", device="cpu")


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "step"])
def test_steps_are_torch_s_at_the_rates_of_the_schedule(optimizer, schedule):
    images, labels = data()
    recipe = replace(
        RECIPE, optimizer=optimizer, schedule=schedule, decay=0.5, decay_every=2,
        weight_decay=0.1, momentum=0.9 if optimizer == "sgd" else 0.0,
    )  # fmt: skip
    steps = [torch.tensor([i, (i + 1) % 6]) for i in range(5)]
    ours, theirs = linear(), linear()
    train(ours, images, labels, recipe, steps, device="cpu")
    made = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer]
    more = {"momentum": 0.9} if optimizer == "sgd" else {}
    optimiser = made(theirs.parameters(), lr=0.1, weight_decay=0.1, **more)
    reference = {
        "constant": torch.optim.lr_scheduler.ConstantLR(optimiser, 1.0),
        "cosine": torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 5),
        "step": torch.optim.lr_scheduler.StepLR(optimiser, 2, 0.5),
    }[schedule]
    for group in optimiser.param_groups:
        group["lr"] = 0.1
    for step in steps:
        optimiser.zero_grad()
        nn.functional.cross_entropy(theirs(images[step]), labels[step]).backward()
        optimiser.step()
        reference.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("soft", [False, True])
def test_class_weights_of_softmax_weigh_each_image(soft):
    images, labels = data()
    weights = (0.5, 1.0, 4.0)
    one_hot = nn.functional.one_hot(labels, 3).double()
    recipe = replace(RECIPE, class_weights=weights)
    model = linear()
    each = -model(images).log_softmax(1)[torch.arange(6), labels]
    expected = float((torch.tensor(weights).double()[labels] * each).mean())
    given = one_hot if soft else labels
    found = make_loss(recipe, model)(model(images), given)
    assert float(found) == pytest.approx(expected)


def test_class_weights_of_sigmoids_weigh_positive_images():
    model = linear()
    images, _ = data()
    labels = torch.randint(2, (6, 3), generator=torch.Generator().manual_seed(1))
    recipe = replace(RECIPE, loss="bce", class_weights=(0.5, 1.0, 4.0))
    theirs = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([0.5, 1.0, 4.0]).double())
    found = make_loss(recipe, model)(model(images), labels)
    assert float(found) == pytest.approx(float(theirs(model(images), labels.double())))


@given(counts=st.lists(st.integers(0, 20), min_size=2, max_size=5).filter(any))
def test_balanced_weights_are_scikit_learn_s(counts):
    labels = torch.tensor([c for c, n in enumerate(counts) for _ in range(n)])
    found = balanced_class_weights(labels, "cross-entropy", len(counts))
    present = np.flatnonzero(counts)
    theirs = compute_class_weight("balanced", classes=present, y=labels.numpy())
    share = len(present) / len(counts)  # scikit-learn does not know of absent classes
    assert [found[c] for c in present] == pytest.approx(theirs * share)
    assert [found[c] for c in range(len(counts)) if not counts[c]] == [1.0] * counts.count(0)


def test_balanced_weights_of_sigmoids_are_negative_over_positive():
    labels = torch.tensor([[1, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1]])
    assert balanced_class_weights(labels, "bce", 3) == (3.0, 1.0, 1.0)
    assert balanced_class_weights(torch.tensor([1, 1, 1, 0]), "bce", 1) == (pytest.approx(1 / 3),)


def test_classes_without_both_kinds_are_left_out_and_counted():
    images, _ = data()
    labels = torch.tensor([[1, 0, 1], [0, 0, 1], [0, 0, 1], [1, 0, 1], [0, 0, 1], [1, 0, 1]])
    found = evaluate(linear(), images, labels, "bce", device="cpu")
    assert found.left_out == 2
    logits = linear()(images).detach()
    assert found.auc == pytest.approx(roc_auc_score(labels[:, 0], logits[:, 0]))
