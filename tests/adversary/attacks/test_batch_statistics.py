from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional

from adversary import Limits, Prior, ThreatModel, TrainingRecipe
from adversary.attacks import AttackError, AttackOptionError, create
from adversary.problem.problem import build_problem


class Deep(nn.Module):
    """Three layers of convolution, batch normalisation and ReLU for 8 x 8 images."""

    def __init__(self):
        super().__init__()
        widths = (1, 16, 32, 32)
        layers = [
            (nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU())
            for i, o in itertools.pairwise(widths)
        ]
        self.body = nn.Sequential(*(m for layer in layers for m in layer), nn.Flatten())
        self.head = nn.Linear(32 * 64, 3)

    def forward(self, images):
        return self.head(self.body(images))


def smooth_images(count, seed=0):
    noise = torch.rand(count, 1, 3, 3, generator=torch.Generator().manual_seed(seed))
    return functional.interpolate(noise, size=(8, 8), mode="bicubic").clamp(0, 1)


def posed(update, images, *, steps=1, mode="train", lr=0.01, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Deep()
    labels = torch.arange(len(images)) % 3
    recipe = TrainingRecipe(lr=lr, batch_size=len(images) // steps, batch_norm=mode)
    seen = update(model, images, labels, recipe)
    prior = Prior(smooth_images(64, seed=99))
    return build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8), prior=prior)


def error(found, truth):
    return float((found - truth).square().mean())


@pytest.mark.parametrize("seed", range(3))
def test_the_buffers_alone_tell_the_image(update, seed):
    image = smooth_images(1, seed)
    problem = posed(update, image, seed=seed)
    found = create("batch-statistics", {"depth": "1", "stages": "3", "iterations": "100"}).run(
        problem
    )
    assert found.labels.tolist() == [0]
    assert error(found.images, image) < 0.02 * error(problem.prior.mean, image)


def test_several_steps_are_matched_by_the_mean_that_the_buffers_tell(update):
    images = smooth_images(2, seed=4)
    problem = posed(update, images, steps=2, lr=1e-4)
    found = create("batch-statistics", {"depth": "1", "stages": "3", "iterations": "100"}).run(
        problem, seed=1
    )
    assert "2 local steps, at weights between those sent and those returned" in found.notes
    orders = [found.images, found.images.flip(0)]
    nearest = min(error(order, images) for order in orders)
    assert nearest < 0.3 * error(problem.prior.mean.expand_as(images), images)


@pytest.mark.parametrize("seed", range(3))
def test_steps_that_move_the_weights_far_mislead_little(update, seed):
    images = smooth_images(4, seed)
    problem = posed(update, images, steps=4, lr=0.3, seed=seed)
    found = create("batch-statistics", {"depth": "1", "stages": "3", "iterations": "50"}).run(
        problem
    )
    nearest = min(
        error(found.images[list(order)], images) for order in itertools.permutations(range(4))
    )
    # All steps taken at the weights that were sent: 2.6 to 4.5 times.
    assert nearest < 1.3 * error(problem.prior.mean.expand_as(images), images)


def test_deeper_layers_come_in_stages(update):
    attack = create("batch-statistics", {"stages": "3", "depth": "0.6", "iterations": "4"})
    found = attack.run(posed(update, smooth_images(1)))
    assert {step.restart for step in found.history} == {0, 1, 2}
    assert found.notes == ("statistics of 2 of 3 batch-norm layers",)
    stopped = attack.run(posed(update, smooth_images(1)), limits=Limits(evaluations=1))
    assert {step.restart for step in stopped.history} == {0}
    assert stopped.stopped == "evaluations"


def test_without_batch_statistics_it_says_so(update):
    with pytest.raises(AttackError, match="client-00 in round 1 carries no batch statistics"):
        create("batch-statistics").run(posed(update, smooth_images(1), mode="eval"))


def test_the_mixed_statistics_of_an_aggregate_are_refused(update):
    problem = posed(update, smooth_images(2))
    seen = dataclasses.replace(problem.observation, view="aggregate")
    with pytest.raises(AttackError, match="statistics of several clients are mixed"):
        create("batch-statistics").run(dataclasses.replace(problem, observation=seen))


@pytest.mark.parametrize("depth", ["0", "1.1"])
def test_a_share_of_the_layers_is_a_share(depth):
    with pytest.raises(AttackOptionError, match="batch-statistics.depth = .*: must be > 0 and"):
        create("batch-statistics", {"depth": depth})
