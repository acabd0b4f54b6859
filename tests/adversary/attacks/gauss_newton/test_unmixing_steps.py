import pytest
import torch

from adversary.attacks.gauss_newton import GaussNewton
from adversary.attacks.gauss_newton.unmixing import possible_labels
from adversary.attacks.gauss_newton.unmixing_steps import unmixed_steps
from adversary.optim.search import Limits, Search
from adversary.priors.smooth import smooth_prior
from adversary.problem.gradient_span import layer_gradient
from adversary.scoring.metrics import match_images, psnr
from tests.helpers.batches import smooth_batch, trained

RECIPES = {
    "momentum and decay": {"momentum": 0.9, "weight_decay": 1e-2},
    "proximal": {"proximal_mu": 0.1},
    "falling rate": {"schedule": "step", "decay": 0.5},
}


def apart(problem, **limits):
    layer, prior = layer_gradient(problem), smooth_prior(problem.shape[1:])
    search = Search("test", 0, Limits(**limits))
    return unmixed_steps(layer, prior, possible_labels(problem, prior), search)


def decibels(images, truth):
    return psnr(images.clamp(0, 1).float(), truth)


@pytest.mark.parametrize("seed", [1, 3])
def test_images_of_steps_are_found_in_their_order_with_their_labels(seed):
    images, labels = smooth_batch(3, seed, 16)
    found = apart(trained(images, labels))
    assert found.count == 3
    assert torch.equal(found.labels, labels)
    assert float(decibels(found.images, images).min()) > 80


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_clients_optimiser_is_followed(recipe):
    images, labels = smooth_batch(2, 2, 16)
    found = apart(trained(images, labels, **RECIPES[recipe]))
    assert torch.equal(found.labels, labels)
    assert float(decibels(found.images, images).min()) > 80


def test_images_of_one_step_may_come_in_any_order():
    images, labels = smooth_batch(4, 1, 16)
    found = apart(trained(images, labels, batch_size=2))
    assert found.count == 4
    for step in (slice(0, 2), slice(2, 4)):
        order = match_images(found.images[step].clamp(0, 1).float(), images[step])
        assert torch.equal(found.labels[step][order], labels[step])
        assert float(decibels(found.images[step][order], images[step]).min()) > 80


def test_what_is_not_found_is_the_prior_mean():
    images, labels = smooth_batch(3, 0)
    problem = trained(images, labels)
    found = apart(problem, evaluations=1)
    mean = smooth_prior(problem.shape[1:]).mean
    assert found.count < 3
    assert int((found.images == mean).flatten(1).all(1).sum()) == 3 - found.count


def test_gauss_newton_goes_on_from_them_to_the_noise_floor():
    images, labels = smooth_batch(2, 4)
    found = GaussNewton(iterations=10).run(trained(images, labels), seed=0)
    assert found.score < 2
    assert torch.equal(found.labels, labels)
    assert float(decibels(found.images, images).min()) > 60
