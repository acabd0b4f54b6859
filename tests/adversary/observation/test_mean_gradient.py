from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from adversary import ObservationError, TrainingRecipe
from adversary.observation.mean_gradient import mean_gradient, rounding_noise, total_step_weights


def autograd(model, images, labels):
    model.zero_grad()
    nn.functional.cross_entropy(model(images), labels).backward()
    return {n: p.grad.clone() for n, p in model.named_parameters()}


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("batch", [1, 3])
def test_one_step_gives_the_exact_gradient(tiny_net, update, batch, momentum, weight_decay):
    model = tiny_net(seed=batch).double()
    images, labels = torch.rand(batch, 1, 8, 8).double(), torch.arange(batch) % 3
    recipe = TrainingRecipe(lr=0.05, batch_size=batch, momentum=momentum, weight_decay=weight_decay)
    seen = update(model, images, labels, recipe)
    found = mean_gradient(seen, [n for n, _ in model.named_parameters()])
    for name, expected in autograd(model, images, labels).items():
        torch.testing.assert_close(found[name], expected, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_several_steps_give_the_mean_gradient_as_the_learning_rate_falls(
    tiny_net, update, momentum, weight_decay
):
    """The one-gradient reading is first order: its error must fall in proportion to lr."""
    model = tiny_net().double()
    images, labels = torch.rand(4, 1, 8, 8).double(), torch.tensor([0, 1, 2, 0])
    truth = autograd(model, images, labels)
    errors = []
    for lr in (1e-2, 1e-3):
        recipe = TrainingRecipe(
            lr=lr, batch_size=4, local_epochs=3, momentum=momentum, weight_decay=weight_decay
        )
        found = mean_gradient(update(model, images, labels, recipe), truth)
        errors.append(max(float((found[n] - g).abs().max()) for n, g in truth.items()))
    assert errors[1] < 0.2 * errors[0]


@pytest.mark.parametrize("rates", [[1.0], [0.5, 0.5], [1.0, 0.3, 0.1, 0.1, 0.0]])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_momentum_weights_move_as_sgd_does(rates, momentum):
    w = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimiser = torch.optim.SGD([w], lr=1.0, momentum=momentum)
    for rate in rates:
        optimiser.param_groups[0]["lr"] = rate
        w.grad = torch.ones_like(w)
        optimiser.step()
    assert total_step_weights(rates, momentum) == pytest.approx(-w.item())


def test_gradients_are_taken_as_they_are(tiny_net, update):
    model = tiny_net()
    seen = update(
        model, torch.rand(1, 1, 8, 8), torch.tensor([1]), TrainingRecipe(lr=1, batch_size=1)
    )
    recipe = TrainingRecipe(lr=0.3, batch_size=1, update="gradient", weight_decay=0.5)
    seen = dataclasses.replace(seen, recipe=recipe)
    found = mean_gradient(seen, ["head.bias"])
    assert torch.equal(found["head.bias"], seen.returned["head.bias"].double())


def test_an_update_that_changes_nothing_is_refused(tiny_net, update):
    model = tiny_net()
    seen = update(
        model, torch.rand(1, 1, 8, 8), torch.tensor([1]), TrainingRecipe(lr=1, batch_size=1)
    )
    with pytest.raises(ObservationError, match="client-00 in round 1: .*changes no parameter"):
        mean_gradient(dataclasses.replace(seen, returned=seen.sent), seen.sent)


@pytest.mark.parametrize("scale", [0.01, 0.3, 40.0])
@pytest.mark.parametrize("lr", [0.05, 1.0])
def test_the_level_of_rounding_is_that_of_the_weights_that_came_back(tiny_net, update, scale, lr):
    model = tiny_net()
    seen = update(
        model, torch.rand(1, 1, 8, 8), torch.tensor([0]), TrainingRecipe(lr=lr, batch_size=1)
    )
    draw = torch.Generator().manual_seed(1)
    exact = scale * torch.randn(200_000, generator=draw, dtype=torch.float64)
    returned = {**seen.returned, "head.weight": exact.float()}
    seen = dataclasses.replace(seen, returned=returned)
    actual = float((exact.float().double() - exact).square().mean().sqrt()) / lr
    assert rounding_noise(seen, "head.weight") == pytest.approx(actual, rel=0.02)
