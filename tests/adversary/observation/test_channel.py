"""An attacker that knows the defence predicts what the defended client sends."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from adversary import ThreatModel, TrainingRecipe
from adversary.observation.channel import Channel, apply_clipping
from adversary.problem.problem import build_problem

LABELS = torch.tensor([0, 1, 1])


def by_hand(model, images, labels, bound):
    """Return the mean of per-example gradients clipped to ``bound``, image by image."""
    total = None
    for image, label in zip(images, labels, strict=True):
        model.zero_grad()
        nn.functional.cross_entropy(model(image[None]), label[None]).backward()
        flat = torch.cat([p.grad.flatten() for p in model.parameters()])
        flat = flat * min(1.0, bound / float(flat.norm()))
        total = flat if total is None else total + flat
    return total / len(images)


def posed(tiny_net, update, channel, lr=0.1):
    model = tiny_net()
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    seen = update(model, images, LABELS, TrainingRecipe(lr=lr, batch_size=3))
    threat = ThreatModel(channel=channel)
    problem = build_problem(seen, threat, model, image_shape=(1, 8, 8), dtype=torch.float64)
    return model.double(), problem, images.double()


def flat(gradient):
    return torch.cat([g.flatten() for g in gradient.values()])


@pytest.mark.parametrize("bound", [0.05, 0.3, 100.0])
def test_clipping_each_image_is_what_a_loop_gives(tiny_net, update, bound):
    model, problem, images = posed(tiny_net, update, Channel(example_clip=bound))
    targets = problem.targets(LABELS)
    expected = by_hand(model, images, LABELS, bound)
    found = flat(problem.expected(problem.parameters, images, targets))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    several = problem.gradients(torch.stack([images, images.flip(0)]), targets.expand(2, -1, -1))
    torch.testing.assert_close(flat({n: g[0] for n, g in several.items()}), expected)


@pytest.mark.parametrize("candidates", [1, 2])
@pytest.mark.parametrize("bound", [0.003, 0.02, 100.0])
def test_a_clipped_update_is_expected_clipped(tiny_net, update, candidates, bound):
    model, problem, images = posed(tiny_net, update, Channel(clip=bound), lr=0.1)
    whole = by_hand(model, images, LABELS, torch.inf)
    expected = whole * min(1.0, bound / 0.1 / float(whole.norm()))
    targets = problem.targets(LABELS).expand(candidates, -1, -1)
    found = problem.gradients(images.expand(candidates, -1, -1, -1, -1), targets)
    torch.testing.assert_close(flat({n: g[0] for n, g in found.items()}), expected)


@pytest.mark.parametrize("candidates", [1, 2])
def test_what_is_not_observed_is_left_out(tiny_net, update, candidates):
    mask = torch.zeros(3, 96, dtype=torch.bool)
    mask[1, ::2] = True
    _, problem, images = posed(tiny_net, update, Channel(observed={"head.weight": mask}))
    targets = problem.targets(LABELS).expand(candidates, -1, -1)
    found = problem.gradients(images.expand(candidates, -1, -1, -1, -1), targets)
    for weight in (found["head.weight"][0], problem.gradient["head.weight"]):
        assert torch.equal(weight != 0, mask)
    assert bool((found["head.bias"] != 0).all())


def test_sigma_is_the_noise_of_the_channel_in_units_of_the_gradient(tiny_net, update):
    _, problem, _ = posed(tiny_net, update, Channel(noise={"head.weight": 0.02}), lr=0.1)
    _, quiet, _ = posed(tiny_net, update, Channel(), lr=0.1)
    assert problem.sigma("head.weight") == pytest.approx(0.2, rel=1e-6)
    assert problem.sigma("head.bias") == quiet.sigma("head.bias") < 1e-5


@pytest.mark.parametrize("seed", range(3))
def test_clipping_is_differentiable(seed):
    draw = torch.Generator().manual_seed(seed)
    a = torch.randn(4, generator=draw, dtype=torch.float64, requires_grad=True)
    b = torch.randn(2, 3, generator=draw, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda a, b: tuple(apply_clipping({"a": a, "b": b}, 0.5).values()),
        (a, b),
    )
    zero = torch.zeros(3, requires_grad=True)
    apply_clipping({"a": zero}, 1.0)["a"].sum().backward()
    assert bool(zero.grad.isfinite().all())
