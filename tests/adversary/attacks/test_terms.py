"""The terms that IGI and STG add, against plain loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from adversary import Prior, ThreatModel, TrainingRecipe
from adversary.attacks.igi import IGI, range_penalty, rescale_to_unit
from adversary.attacks.stg import STG, consensus, root_mean_square
from adversary.problem.problem import build_problem


def candidates(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(1, 1, 1, 4, 4), (3, 2, 3, 5, 6)])
def test_excess_and_stretch_against_loops(shape):
    images = candidates(*shape)
    for r, batch in enumerate(images.numpy()):
        over = [(image - image.clip(0, 1)) ** 2 for image in batch]
        apart = [(x - (x - x.min()) / (x.max() - x.min())) ** 2 for x in batch]
        assert float(range_penalty(images)[r]) == pytest.approx(np.mean(over))
        assert float(rescale_to_unit(images)[r]) == pytest.approx(np.mean(apart))
        norm = np.sqrt(np.mean(batch**2))
        assert float(root_mean_square(images)[r]) == pytest.approx(norm)


def test_images_that_span_the_range_cost_nothing_and_flat_ones_are_finite():
    image = torch.linspace(0, 1, 16).view(1, 1, 1, 4, 4)
    assert float(range_penalty(image)) == 0
    assert float(rescale_to_unit(image)) == pytest.approx(0, abs=1e-12)
    flat = torch.full((1, 1, 1, 4, 4), 0.3, requires_grad=True)
    rescale_to_unit(flat).sum().backward()
    assert torch.isfinite(flat.grad).all()


@pytest.mark.parametrize("group", [1, 2, 5])
def test_the_consensus_of_distinct_labels_is_the_mean_of_a_loop(group):
    images = candidates(group, 3, 1, 4, 4)
    expected = sum(images[r] for r in range(group)) / group
    for found in consensus(images):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("seed", range(4))
def test_the_consensus_of_repeated_labels_is_over_the_best_order(seed):
    labels = torch.tensor([0, 0, 1, 0])
    targets = torch.nn.functional.one_hot(labels, 2).double()
    images = candidates(3, 4, 1, 3, 3, seed=seed)
    orders = [p for p in itertools.permutations(range(4)) if (labels[list(p)] == labels).all()]
    chosen = [
        min(orders, key=lambda p, x=x: float((x[list(p)] - images[0]).square().sum()))
        for x in images
    ]
    mean = sum(x[list(p)] for x, p in zip(images, chosen, strict=True)) / 3
    for found, order in zip(consensus(images, targets), chosen, strict=True):
        torch.testing.assert_close(found[list(order)], mean)


def test_the_consensus_of_one_batch_in_two_orders_is_that_batch():
    batch = candidates(3, 1, 4, 4)
    images = torch.stack([batch, batch[[2, 0, 1]]])
    found = consensus(images, torch.ones(3, 1))
    torch.testing.assert_close(found, images)


@pytest.mark.parametrize("targets", [None, torch.ones(2, 1)])
def test_a_candidate_that_is_lost_does_not_take_the_group_with_it(targets):
    images = candidates(3, 2, 1, 4, 4)
    alone = consensus(images[:2], targets)
    images[2] = torch.nan
    torch.testing.assert_close(consensus(images, targets)[:2], alone)


def problem_of(tiny_net, update, *, norm=False, batch=2):
    model = tiny_net(norm=norm)
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(batch, 1, 8, 8, generator=draw)
    recipe = TrainingRecipe(lr=0.1, batch_size=batch)
    seen = update(model, images, torch.arange(batch), recipe)
    prior = Prior(torch.rand(3, 1, 8, 8, generator=draw))
    return build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8), prior=prior), images


@pytest.mark.parametrize("cls", [IGI, STG])
@pytest.mark.parametrize("norm", [False, True])
def test_each_weight_adds_its_term_and_zero_weights_leave_the_gradient_alone(
    tiny_net, update, cls, norm
):
    problem, images = problem_of(tiny_net, update, norm=norm)
    names = {IGI: ["tv", "clip", "scale"], STG: ["tv", "norm", "batch_norm", "group"]}[cls]
    alone = cls(**dict.fromkeys(names, 0.0))
    at = {"images": torch.stack([images, 1.5 * images.flip(3) - 0.2])}
    bare = alone.objective(problem)(at)
    assert bare[0] < 1e-4
    for name in names:
        value = cls(**dict.fromkeys(names, 0.0) | {name: 0.5}).objective(problem)(at) - bare
        if name == "batch_norm" and not norm:
            assert torch.equal(value, torch.zeros(2))
        else:
            assert float(value[1]) > 1e-3
    if cls is STG and norm:
        weights = dict.fromkeys(names, 0.0) | {"batch_norm": 1.0}
        exact = cls(**weights).objective(problem)(at)[0] - bare[0]
        assert float(exact) < 1e-4  # the true images have the observed statistics


def test_the_group_is_drawn_together(tiny_net, update):
    problem, _ = problem_of(tiny_net, update, batch=1)
    apart = []
    for weight in (0.0, 100.0):
        attack = STG(iterations=30, restarts=3, group=weight, noise=0.0)
        variables = attack.variables(problem, [1, 2, 3])
        objective, method = attack.objective(problem), attack.method(0)
        for _ in range(30):
            leaf = variables["images"].detach().requires_grad_()
            (slope,) = torch.autograd.grad(objective({"images": leaf}).sum(), leaf)
            method.step(variables, (None, {"images": slope}), None)
        apart.append(float(variables["images"].std(0).mean()))
    assert apart[1] < 0.3 * apart[0]
