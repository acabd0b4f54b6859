from __future__ import annotations

import pytest
import torch

from adversary import TrainingRecipe
from adversary.observation.batch_statistics import (
    LayerStatistics,
    batch_statistics,
    observed_statistics,
    simulated_statistics,
    statistics_distance,
)


def seen_by_layer(model, images):
    """Return mean and unbiased variance of what enters model.body[1], channel by channel."""
    inputs = model.body[0](images).double().transpose(0, 1).flatten(1)
    return inputs.mean(1), inputs.var(1)


def updated(tiny_net, update, *, steps=1, momentum=0.1, before=3, mode="train", lr=0.1):
    model = tiny_net(norm=True)
    layer = model.body[1]
    layer.momentum = momentum
    with torch.no_grad():
        layer.running_mean.copy_(torch.linspace(-1, 1, 6))
        layer.running_var.copy_(torch.linspace(0.5, 2, 6))
        layer.num_batches_tracked.fill_(before)
    images = torch.rand(2 * steps, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    recipe = TrainingRecipe(lr=lr, batch_size=2, batch_norm=mode)
    return model, images, update(model, images, torch.arange(2 * steps) % 3, recipe)


@pytest.mark.parametrize("momentum", [0.1, 0.9, 1.0, None])
def test_one_step_tells_the_batch_s_own_statistics(tiny_net, update, momentum):
    model, images, seen = updated(tiny_net, update, momentum=momentum)
    found = observed_statistics(seen, model)["body.1"]
    mean, variance = seen_by_layer(model, images)
    torch.testing.assert_close(found.mean, mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.variance, variance, rtol=0, atol=1e-5)


@pytest.mark.parametrize("momentum", [0.3, None])
def test_several_steps_tell_the_weighted_mean_of_their_statistics(tiny_net, update, momentum):
    # A tiny learning rate, so that the layer's inputs are those of the weights that were sent.
    model, images, seen = updated(tiny_net, update, steps=3, momentum=momentum, lr=1e-12)
    by_step = [seen_by_layer(model, batch) for batch in images.split(2)]
    shares = [1 / 3] * 3 if momentum is None else [0.7**2, 0.7, 1]
    total = sum(shares)
    found = observed_statistics(seen, model)["body.1"]
    for k, value in enumerate(found):
        expected = sum(s * step[k] for s, step in zip(shares, by_step, strict=True)) / total
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("momentum", [0.3, None])
@pytest.mark.parametrize("steps", [1, 3])
def test_statistics_of_steps_are_what_their_buffers_tell(tiny_net, update, momentum, steps):
    model, images, seen = updated(tiny_net, update, steps=steps, momentum=momentum, lr=1e-12)
    told = observed_statistics(seen, model)["body.1"]
    batches = images.split(2)
    (found,) = simulated_statistics(model, batches, ["body.1"], [{}] * steps)
    for value, expected in zip(found, told, strict=True):
        torch.testing.assert_close(value.double(), expected, rtol=0, atol=1e-5)


def test_a_network_is_run_no_further_than_its_statistics_are_wanted(tiny_net):
    model = tiny_net(norm=True).eval()
    calls = []
    model.head.register_forward_hook(lambda *_: calls.append("head"))
    batch_statistics(model, torch.rand(2, 1, 8, 8), ["body.1"])
    assert not calls


def test_buffers_that_stand_still_tell_the_earlier_data(tiny_net, update):
    model, _, seen = updated(tiny_net, update, mode="eval")
    found = observed_statistics(seen, model)["body.1"]
    torch.testing.assert_close(found.mean.float(), model.body[1].running_mean)
    torch.testing.assert_close(found.variance.float(), model.body[1].running_var)


def test_there_is_nothing_to_tell_without_buffers_or_before_any_training(tiny_net, update):
    model, _, seen = updated(tiny_net, update, mode="eval", before=0)
    assert observed_statistics(seen, model) == {}
    plain = tiny_net()
    recipe = TrainingRecipe(lr=0.1, batch_size=2)
    seen = update(plain, torch.rand(2, 1, 8, 8), torch.tensor([0, 1]), recipe)
    assert observed_statistics(seen, plain) == {}


def test_statistics_of_a_batch_are_those_that_training_records(tiny_net):
    model = tiny_net(norm=True).double()
    images = torch.rand(3, 1, 8, 8, dtype=torch.float64)
    (found,) = batch_statistics(model, images, ["body.1"])
    model.body[1].momentum = 1.0
    model.train()(images)
    torch.testing.assert_close(found.mean, model.body[1].running_mean)
    torch.testing.assert_close(found.variance, model.body[1].running_var)
    assert not model.body[1]._forward_pre_hooks


def test_a_single_value_a_channel_has_no_variance_rather_than_nan(tiny_net):
    model = tiny_net(norm=True).eval()
    images = torch.rand(1, 1, 1, 1, requires_grad=True)
    (found,) = batch_statistics(model.body[:2], images, ["1"])
    assert torch.equal(found.variance, torch.zeros(6))
    statistics_distance([found], [LayerStatistics(torch.zeros(6), torch.ones(6))]).backward()
    assert torch.isfinite(images.grad).all()


def test_the_distance_is_its_formula():
    a = [
        LayerStatistics(torch.randn(4), torch.rand(4)),
        LayerStatistics(torch.randn(2), torch.rand(2)),
    ]
    b = [
        LayerStatistics(torch.randn(4), torch.rand(4)),
        LayerStatistics(torch.randn(2), torch.rand(2)),
    ]
    expected = sum(
        float((x - y).square().sum()) ** 0.5
        for p, q in zip(a, b, strict=True)
        for x, y in zip(p, q, strict=True)
    )
    assert float(statistics_distance(a, b)) == pytest.approx(expected)
    assert float(statistics_distance(a, a)) == 0
