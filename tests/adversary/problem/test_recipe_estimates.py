"""What an update tells of its training, against training that really took place."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from adversary.observation.observation import Observation
from adversary.observation.recipe import TrainingRecipe
from adversary.problem.pixel_mean import mean_input
from adversary.problem.recipe_estimates import CONTRADICTED, fitted_steps, reconciled

SHAPE = (1, 12, 12)


def network(outputs=4, *, norm=True):
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2),
        nn.BatchNorm2d(8) if norm else nn.Identity(),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3),
        nn.BatchNorm2d(8) if norm else nn.Identity(),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(72, outputs),
    )


def smooth(count):
    grid = torch.rand(count, 1, 3, 3)
    return functional.interpolate(grid, SHAPE[1:], mode="bilinear")


def trained(optimizer, *, images=8, size=4, epochs=1, norm=True, seed=0, kept=None, moved=None):
    """Return (model, sent, returned) of a client that trains for real."""
    torch.manual_seed(seed)
    model = network(norm=norm)
    sent = {n: v.clone() for n, v in model.state_dict().items()}
    pictures, labels = smooth(images), torch.randint(4, (images,))
    pictures = pictures if moved is None else moved(pictures)
    steps = optimizer(model.parameters())
    for _ in range(epochs):
        for first in range(0, kept or images, size):
            steps.zero_grad()
            batch = slice(first, first + size)
            functional.cross_entropy(model(pictures[batch]), labels[batch]).backward()
            steps.step()
    return model, sent, {n: v.clone() for n, v in model.state_dict().items()}


def sgd(lr=0.05, momentum=0.0):
    return lambda parameters: torch.optim.SGD(parameters, lr=lr, momentum=momentum)


def seen(update, *, images=8, **recipe):
    _, sent, returned = update
    recipe = TrainingRecipe(**{"lr": 0.05, "batch_size": 4} | recipe)
    return Observation(
        round=1, client="c", sent=sent, returned=returned, num_examples=images, recipe=recipe
    )


@pytest.mark.parametrize(
    ("training", "told", "said", "expected", "flagged"),
    [
        ({}, {"batch_size"}, {}, (2, 8), False),
        ({"size": 2}, (), {"batch_size": 32}, (4, 8), False),
        ({"size": 3}, (), {"batch_size": 32}, (3, 8), False),
        ({"images": 9, "kept": 8}, {"batch_size"}, {}, (2, 8), False),
        ({"epochs": 3}, {"batch_size"}, {}, (6, 8), False),
        ({"epochs": 3}, {"batch_size", "local_epochs"}, {}, (6, 8), True),
        ({"epochs": 2, "size": 2}, {"local_epochs"}, {"local_epochs": 2}, (8, 8), False),
        ({"kept": 4}, {"batch_size"}, {}, (1, 4), True),
    ],
)
def test_counted_steps_and_images(training, told, said, expected, flagged):
    images = training.get("images", 8)
    update = trained(sgd(), **training)
    fit = fitted_steps(seen(update, images=images, **said), told)
    assert (fit.recipe.steps(fit.images), fit.recipe.images(fit.images)) == expected
    assert fit.contradicted == flagged
    assert bool(fit.notes) == (fit.recipe != seen(update, **said).recipe or flagged)


def test_a_number_of_examples_that_counts_batches():
    update = trained(sgd(), images=12)
    fit = fitted_steps(seen(update, images=3), {"batch_size"})
    assert (fit.images, fit.recipe.steps(fit.images)) == (12, 3)
    assert fit.contradicted
    assert "num-examples counts batches" in fit.notes[0]


def test_without_counters_an_assumed_batch_size_is_said():
    update = trained(sgd(), norm=False)
    assert fitted_steps(seen(update), {"batch_size"}).notes == ()
    assert "assumed" in fitted_steps(seen(update), ()).notes[0]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("norm", [True, False])
def test_the_rate_of_one_image_is_exact(seed, norm):
    update = trained(sgd(0.037), images=1, size=1, norm=norm, seed=seed)
    found = reconciled(
        seen(update, images=1, batch_size=1), update[0], image_shape=SHAPE, told={"batch_size"}
    )
    assert math.isclose(found.recipe.lr, 0.037, rel_tol=1e-2)
    assert "learning rate 0.037" in found.notes[-1]
    assert found.flags == ()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("lr", [0.1, 0.01])
def test_the_rate_of_several_steps_is_roughly_right(seed, lr):
    update = trained(sgd(lr), images=16, seed=seed)
    found = reconciled(
        seen(update, images=16), update[0], image_shape=SHAPE, told={"batch_size", "momentum"}
    )
    assert lr / 5 < found.recipe.lr < 5 * lr


@pytest.mark.parametrize("seed", range(3))
def test_momentum_that_nobody_told(seed):
    for momentum in (0.0, 0.9):
        update = trained(sgd(0.02, momentum), images=64, seed=seed)
        found = reconciled(
            seen(update, images=64, lr=0.02),
            update[0],
            image_shape=SHAPE,
            told={"batch_size", "lr"},
        )
        assert found.recipe.momentum == momentum
        assert any("momentum" in note for note in found.notes) == (momentum > 0)


@pytest.mark.parametrize("lr", [1e-3, 1e-5])
@pytest.mark.parametrize("images", [4, 16])
def test_adam_is_recognised(lr, images):
    update = trained(lambda p: torch.optim.Adam(p, lr=lr), images=images)
    found = reconciled(
        seen(update, images=images), update[0], image_shape=SHAPE, told={"batch_size"}
    ).recipe
    assert found.optimizer == "adam"
    assert math.isclose(found.lr, lr, rel_tol=0.1)


@pytest.mark.parametrize("seed", range(3))
def test_a_rate_told_wrong_is_flagged_and_a_right_one_is_not(seed):
    update = trained(sgd(0.05), seed=seed)
    for lr, flags in ((0.05, ()), (0.0005, (CONTRADICTED,)), (5.0, (CONTRADICTED,))):
        found = reconciled(
            seen(update, lr=lr),
            update[0],
            image_shape=SHAPE,
            told={"batch_size", "lr", "momentum", "optimizer"},
        )
        assert found.flags == flags
        assert found.recipe.lr == lr


@pytest.mark.parametrize("seed", range(4))
def test_the_first_layer_tells_how_bright_images_are(seed):
    plain = trained(sgd(), norm=False, seed=seed)
    assert 0.2 < mean_input(seen(plain), plain[0], SHAPE) < 0.8
    dark = trained(sgd(), norm=False, seed=seed, moved=lambda x: (x - 0.5) / 0.25 - 2)
    assert mean_input(seen(dark), dark[0], SHAPE) < 0


def test_a_first_layer_without_a_bias_tells_nothing():
    model = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.Flatten(), nn.Linear(200, 2))
    state = {n: v.clone() for n, v in model.state_dict().items()}
    assert mean_input(seen((model, state, state)), model, SHAPE) is None
