import dataclasses

import pytest
import torch

from adversary.observation.channel import Channel
from adversary.problem.gradient_span import (
    LayerGradient,
    Span,
    SpanEquations,
    layer_gradient,
    with_counted_images,
)
from adversary.problem.residuals import jacobian
from adversary.problem.update_models import local_training
from tests.helpers.batches import noise_batch as batch
from tests.helpers.batches import posed, trained


def chi_square(layer, image, found=()):
    return float(SpanEquations(layer, layer.span(found), image).__call__(image).square().mean())


@pytest.mark.parametrize("count", [2, 5])
def test_each_image_lies_in_the_span_and_no_other_does(count):
    images, labels = batch(count)
    layer = layer_gradient(posed(images, labels))
    assert layer.rank == count * layer.positions == layer.visible_rank
    for image in images.double():
        assert chi_square(layer, image[None]) == pytest.approx(1, abs=0.5)
    others = [batch(1, seed=7)[0].double(), images.double().mean(0, keepdim=True)]
    assert all(chi_square(layer, other) > 1e4 for other in others)


def test_the_span_does_not_know_the_scales_of_images():
    images, labels = batch(3)
    layer = layer_gradient(posed(images, labels, scales=[1.0, 0.1, 0.5]))
    assert all(chi_square(layer, image[None]) < 3 for image in images.double())


def test_an_image_that_is_taken_off_leaves_the_span_and_the_others_stay():
    images, labels = batch(3)
    problem = posed(images, labels)
    layer = layer_gradient(problem)
    targets = problem.targets(labels)
    taken = [layer.derivatives(images[:1].double(), targets[:1])]
    assert chi_square(layer, images[:1].double(), taken) > 1e4
    for image in images[1:].double():
        assert chi_square(layer, image[None], taken) < 3


def test_the_label_agrees_that_an_image_has():
    images, labels = batch(4)
    problem = posed(images, labels)
    layer = layer_gradient(problem)
    for image, label in zip(images.double(), labels, strict=True):
        right, wrong = problem.targets(torch.stack([label, 1 - label]))
        assert layer.agreement(image[None], right[None]) == pytest.approx(1, abs=0.01)
        assert layer.agreement(image[None], wrong[None]) == pytest.approx(-1, abs=0.01)


def test_derivatives_and_inputs_make_the_gradient_of_the_layer():
    images, labels = batch(2)
    problem = posed(images, labels)
    layer = layer_gradient(problem)
    made = sum(
        layer.derivatives(image[None], problem.targets(label[None])).T @ layer.inputs(image[None])
        for image, label in zip(images.double(), labels, strict=True)
    )
    torch.testing.assert_close(made / 2, layer.matrix, atol=1e-6, rtol=1e-3)


def test_the_noise_outside_the_span_is_that_of_a_simulation():
    draw = torch.Generator().manual_seed(0)
    left, rows = (torch.randn(4, n, generator=draw, dtype=torch.float64) for n in (30, 50))
    level, squares = 1e-5, []
    for _ in range(200):
        noise = level * torch.randn(30, 50, generator=draw, dtype=torch.float64)
        span = Span.of(left.T @ rows + noise, 4, 0.0)
        residual = rows @ span.complement(20, 0)
        squares.append((residual / span.deviation(rows)[:, None]).square().mean())
    assert span.noise == pytest.approx(level, rel=0.2)
    assert float(torch.stack(squares).mean()) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("model", ["convolutions", "linear"])
def test_normal_equations_and_pullback_are_those_of_the_jacobian(model):
    images, labels = batch(2)
    layer = layer_gradient(posed(images, labels))
    if model == "linear":  # one position that sees the whole image
        matrix = torch.randn(2, layer.problem.model.head.in_features, dtype=torch.float64)
        layer = dataclasses.replace(layer, layer="head", matrix=matrix, positions=1)
    image = images[:1].double()
    equations = SpanEquations(layer, layer.span(), image)
    rows = jacobian(equations, image).T
    torch.testing.assert_close(equations.normal(image), rows @ rows.T)
    vector = torch.randn(len(equations), dtype=torch.float64)
    torch.testing.assert_close(equations.pullback(image)(vector), rows @ vector)


def test_the_rank_counts_the_images_of_a_poisson_batch():
    images, labels = batch(3)
    problem = posed(images, labels, expected=4, clip=1e6)
    assert problem.shape[0] == 4
    counted = with_counted_images(problem)
    assert counted.shape[0] == 3
    targets = counted.targets(labels)
    expected = counted.expected(counted.parameters, images.double(), targets)
    for name, gradient in counted.gradient.items():
        torch.testing.assert_close(expected[name], gradient, atol=1e-6, rtol=1e-3)


def test_a_batch_of_known_size_is_not_counted():
    problem = posed(*batch(3))
    assert with_counted_images(problem) is problem


def test_gradients_of_steps_are_read_without_weight_decay():
    images, labels = batch(2)
    decay, problem = 0.1, trained(*batch(2), weight_decay=0.1)
    layer = layer_gradient(problem)
    name, sent = f"{layer.layer}.weight", problem.parameters
    lr, targets = problem.observation.recipe.lr, problem.targets(labels)
    first = problem.step_gradient(sent, images[:1].double(), targets[:1])
    second = {n: (1 - lr * decay) * w - lr * first[n] for n, w in sent.items()}
    last = problem.step_gradient(second, images[1:].double(), targets[1:])
    exact = ((1 - lr * decay) * first[name] + last[name]).flatten(1) / 2
    torch.testing.assert_close(layer.matrix, exact, atol=1e-6, rtol=1e-4)


def test_inputs_at_the_weights_of_their_own_step_lie_in_the_span():
    images, labels = batch(2)
    problem = trained(images, labels)
    layer, targets = layer_gradient(problem), problem.targets(labels)
    one, other = images[:1].double(), images[1:].double()
    second = local_training(problem, problem.parameters, [(one, targets[:1])])
    span, moved = layer.span(), layer.at(second)
    assert layer.misfit(span, one) < 2 < 100 < layer.misfit(span, other)
    assert moved.misfit(span, other) < 2 < 100 < moved.misfit(span, one)


@pytest.mark.parametrize("what", ["one image", "too many", "mask", "Adam", "two epochs"])
def test_updates_that_tell_no_images_apart_are_left(what):
    problem = posed(*batch({"one image": 1, "too many": 129}.get(what, 3)))
    if what == "mask":
        masks = {n: torch.ones_like(g, dtype=torch.bool) for n, g in problem.gradient.items()}
        threat = dataclasses.replace(problem.threat, channel=Channel(observed=masks))
        problem = dataclasses.replace(problem, threat=threat)
    if what == "two epochs":
        problem = trained(*batch(2))
        seen = dataclasses.replace(
            problem.observation,
            recipe=dataclasses.replace(problem.observation.recipe, local_epochs=2),
        )
        problem = dataclasses.replace(problem, observation=seen)
    if what == "Adam":
        recipe = dataclasses.replace(problem.observation.recipe, optimizer="adam")
        seen = dataclasses.replace(problem.observation, recipe=recipe)
        problem = dataclasses.replace(problem, observation=seen)
    assert layer_gradient(problem) is None


def test_a_layer_is_named():
    found = layer_gradient(posed(*batch(2)))
    assert isinstance(found, LayerGradient)
    assert found.layer == "body.4"
