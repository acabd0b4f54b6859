import math

import pytest
import torch

from adversary.attacks.gauss_newton import GaussNewton
from adversary.attacks.gauss_newton.unmixing import possible_labels, unmixed
from adversary.attacks.standard import Standard
from adversary.optim.search import Limits, Search
from adversary.priors.smooth import smooth_prior
from adversary.problem.gradient_span import SpanEquations, layer_gradient
from adversary.scoring.metrics import match_images, psnr
from tests.helpers.batches import posed, smooth_batch


def decibels(found, labels, truth, true_labels):
    """Return the least PSNR over images; minus infinity where a label is wrong."""
    order = match_images(found.float(), truth)
    if not torch.equal(labels[order].long(), true_labels):
        return -math.inf
    return float(psnr(found[order].float(), truth).min())


def decrement(layer, prior, image):
    """Return the mean squared step that is left, in standard deviations of the posterior."""
    equations = SpanEquations(layer, layer.span(), image)
    slope = equations.pullback(image)(equations(image))
    slope += prior.precision_matvec((image - prior.mean).flatten(1)).flatten()
    curvature = equations.normal(image) + prior.precision()
    return float(slope @ torch.linalg.solve(curvature, slope)) / image.numel()


@pytest.mark.parametrize(("count", "seed"), [(2, 0), (4, 1), (4, 2), (8, 3)])
def test_images_are_found_one_by_one_with_their_labels(count, seed):
    images, labels = smooth_batch(count, seed)
    problem = posed(images, labels)
    layer, prior = layer_gradient(problem), smooth_prior(problem.shape[1:])
    found = unmixed(layer, prior, possible_labels(problem, prior), Search("test", 0))
    assert found.count == count
    assert decibels(found.images.clamp(0, 1), found.labels, images, labels) > 50
    # Each is the most probable one in the whole span, where errors of those before do not count.
    assert max(decrement(layer, prior, image[None]) for image in found.images) < 1e-6


def test_images_that_no_start_leads_to_are_the_prior_mean():
    images, labels = smooth_batch(3, 0)
    problem = posed(images, labels)
    layer, prior = layer_gradient(problem), smooth_prior(problem.shape[1:])
    search = Search("test", 0, Limits(evaluations=1))
    found = unmixed(layer, prior, possible_labels(problem, prior), search)
    assert found.count == 0
    assert torch.equal(found.images, prior.mean.expand_as(found.images))


def test_a_granted_label_is_the_only_one_that_is_possible():
    images, labels = smooth_batch(3, 0)
    problem = posed(images, labels * 0, labels_known=True)
    assert possible_labels(problem, smooth_prior(problem.shape[1:])).tolist() == [0]


def test_gauss_newton_goes_on_from_the_images_to_the_noise_floor():
    images, labels = smooth_batch(3, 4)
    found = GaussNewton(iterations=10).run(posed(images, labels), seed=0)
    assert found.score < 2
    assert decibels(found.images, found.labels, images, labels) > 70


def test_the_standard_adversary_finds_a_poisson_batch_of_another_size():
    images, labels = smooth_batch(3, 5)
    found = Standard(effort="quick").run(posed(images, labels, expected=4, clip=1e6), seed=0)
    assert found.images.shape == images.shape
    assert found.member in {"unmixing", "gauss-newton"}  # which goes on from there
    assert decibels(found.images, found.labels, images, labels) > 60
