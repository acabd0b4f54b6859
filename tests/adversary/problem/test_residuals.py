from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from adversary import ThreatModel, TrainingRecipe
from adversary.attacks.gauss_newton.softplus import with_softplus
from adversary.observation.channel import Channel
from adversary.problem.problem import build_problem
from adversary.problem.residuals import (
    MAX_WASTED_RATIO,
    Residuals,
    jacobian,
    residuals,
    stratified_indices,
)


def problem_of(tiny_net, update, *, batch=2, lr=0.1, channel=None, norm=False, **recipe):
    model = tiny_net(seed=3, norm=norm)
    draw = torch.Generator().manual_seed(batch)
    images = torch.rand(batch, 1, 8, 8, generator=draw)
    labels = torch.arange(batch) % 3
    recipe = TrainingRecipe(lr=lr, **{"batch_size": batch, **recipe})
    seen = update(model, images, labels, recipe)
    threat = ThreatModel(labels=labels, channel=channel or Channel())
    problem = build_problem(seen, threat, model, image_shape=(1, 8, 8)).to(torch.float64)
    return problem, images.double(), problem.targets(labels)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_the_jacobian_is_that_of_reverse_mode(chunk):
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, generator=draw, dtype=torch.float64)
    A = torch.randn(5, 6, generator=draw, dtype=torch.float64)

    def function(x):
        return (A @ x.flatten()).sin()

    expected = torch.autograd.functional.jacobian(function, x).reshape(5, 6)
    torch.testing.assert_close(jacobian(function, x, chunk), expected)


@pytest.mark.parametrize(
    ("options", "separable"),
    [
        ({}, True),
        ({"batch": 3, "batch_norm": "eval", "norm": True}, True),
        ({"batch_norm": "train", "norm": True}, False),
        ({"channel": Channel(clip=0.01)}, False),
        ({"channel": Channel(example_clip=0.5)}, True),
        ({"batch_size": 1}, False),
        ({"batch": 3, "batch_size": 2, "momentum": 0.9}, False),
        ({"batch": 3, "batch_size": 1, "local_epochs": 2, "weight_decay": 0.1}, False),
        ({"batch_size": 1, "channel": Channel(example_clip=0.5)}, False),
    ],
)
def test_rows_are_the_jacobian_whether_images_depend_on_each_other_or_not(
    tiny_net, update, options, separable
):
    problem, images, targets = problem_of(tiny_net, update, **options)
    equations = residuals(problem, targets, 2.0, 0)
    x = images + 0.05
    assert equations.separable == separable
    expected = torch.func.jacrev(equations)(x).reshape(len(equations), -1).T
    torch.testing.assert_close(equations.rows(x, 16), expected, rtol=1e-8, atol=1e-6)
    draw = torch.Generator().manual_seed(1)
    directions = torch.randn(5, 64, generator=draw, dtype=torch.float64)
    of_last = directions @ expected[-64:]
    torch.testing.assert_close(
        equations.along(x, len(x) - 1, directions, 3), of_last, rtol=1e-7, atol=1e-5
    )


def test_products_are_those_of_the_jacobian(tiny_net, update):
    problem, images, targets = problem_of(tiny_net, update)
    equations = residuals(problem, targets, math.inf, 0)
    rows = equations.rows(images)
    draw = torch.Generator().manual_seed(0)
    v = torch.randn(images.shape, generator=draw, dtype=torch.float64)
    u = torch.randn(len(equations), generator=draw, dtype=torch.float64)
    torch.testing.assert_close(equations.forward(images, v), rows.T @ v.flatten())
    torch.testing.assert_close(equations.pullback(images)(u), rows @ u)
    bend = torch.func.jvp(lambda x: equations.forward(x, v), (images,), (v,))[1]
    error = equations.bend(images, v) - bend
    assert float(error.norm()) < 0.01 * float(bend.norm())  # fourth derivatives, 0.1 away


def test_large_arrays_are_left_out_where_the_small_ones_are_enough():
    entries = {"large": torch.arange(10**6), "small": torch.arange(10), "middle": torch.arange(500)}
    few, many = stratified_indices(entries, 20, 0), stratified_indices(entries, 100, 0)
    assert 20 * MAX_WASTED_RATIO < 510
    assert list(few) == ["small", "middle"]
    assert sum(map(len, few.values())) == 20
    assert list(many) == ["large", "small", "middle"]
    assert sum(map(len, many.values())) == 100


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"channel": Channel(clip=0.01)},
        {"channel": Channel(example_clip=0.5)},
        {"batch_size": 1},
        {"batch_norm": "train", "norm": True},
    ],
)
def test_equations_of_some_arrays_are_those_of_the_whole_update(tiny_net, update, options):
    problem, images, targets = problem_of(tiny_net, update, **options)
    every = residuals(problem, targets, math.inf, 0)
    few = {n: every.picks[n][:2] for n in ("head.bias", "body.0.weight")}
    some = Residuals(problem, targets, few).completed()
    parts = dict(zip(every.picks, every(images + 0.1).split(every.counts.tolist()), strict=True))
    expected = torch.cat([parts[name].sort().values for name in few])
    found = some(images + 0.1).split(some.counts.tolist())
    torch.testing.assert_close(torch.cat([part.sort().values for part in found]), expected)


def test_calibration_counts_what_a_model_in_the_clients_place_leaves_unexplained(tiny_net, update):
    model = tiny_net(seed=0)
    model.body[2] = model.body[4] = torch.nn.ReLU()
    images, labels = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)), [1]
    seen = update(model, images, torch.tensor(labels), TrainingRecipe(lr=0.1, batch_size=1))
    problem = build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8)).to(torch.float64)
    soft = with_softplus(problem, 100.0, images.double())
    equations = residuals(soft, soft.targets(torch.tensor(labels)), math.inf, 0)
    x = images.double()
    assert float(equations.calibrated(x)(x).square().mean()) > 1e4
    near = equations.calibrated(x, client=problem)
    assert 0.2 < float(near(x).square().mean()) < 1  # units that are off leave nothing


def test_simulated_errors_of_the_clients_arithmetic_are_others_each_time(tiny_net, update):
    problem, images, targets = problem_of(tiny_net, update)
    pair = torch.stack(list(residuals(problem, targets, math.inf, 0).errors(images, 2)))
    assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.3


@pytest.mark.parametrize("options", [{}, {"batch_size": 1}])
def test_rows_can_be_mixed_as_they_are_worked_out(tiny_net, update, options):
    problem, images, targets = problem_of(tiny_net, update, **options)
    equations = residuals(problem, targets, math.inf, 0)
    draw = torch.Generator().manual_seed(0)
    S = torch.randn(7, len(equations), generator=draw, dtype=torch.float64)
    expected = equations.rows(images) @ S.T
    torch.testing.assert_close(equations.rows(images, 16, lambda r: S @ r), expected)


def test_in_single_precision_they_are_the_same_equations(tiny_net, update):
    problem, images, targets = problem_of(tiny_net, update)
    equations = residuals(problem, targets, 2.0, 0)
    low = equations.single()
    rows = low.rows(images.float())
    assert rows.dtype == torch.float32
    exact = equations.rows(images)
    assert float((rows - exact).norm()) < 1e-5 * float(exact.norm())
    assert low.sigma == equations.sigma


def test_entries_that_the_channel_masks_are_not_matched(tiny_net, update):
    mask = torch.zeros(3, 96, dtype=torch.bool)
    mask[1, :5] = True
    channel = Channel(observed={"head.weight": mask})
    problem, _, targets = problem_of(tiny_net, update, channel=channel)
    picks = residuals(problem, targets, math.inf, 0).picks["head.weight"]
    assert sorted(picks.tolist()) == list(range(96, 101))


@pytest.mark.parametrize("recipe", [{}, {"momentum": 0.9, "weight_decay": 0.01}])
@pytest.mark.parametrize("epochs", [1, 2])
def test_several_local_steps_are_explained_by_the_images_in_their_order(
    tiny_net, update, recipe, epochs
):
    problem, images, targets = problem_of(
        tiny_net, update, batch=3, batch_size=1, local_epochs=epochs, **recipe
    )
    equations = residuals(problem, targets, math.inf, 0)
    assert float(equations(images).square().mean()) < 2
    swapped = images[[1, 0, 2]]
    assert float(equations(swapped).square().mean()) > 1e3


@pytest.mark.parametrize("seed", range(3))
def test_calibration_tells_the_level_of_the_clients_rounding(tiny_net, update, seed):
    """Also where labels cancel: the general level of an array's largest entry is wrong there."""
    model = tiny_net(seed=seed)
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    labels = torch.tensor([0, 1])
    recipe = TrainingRecipe(lr=1.0, batch_size=2, update="gradient")
    seen = update(model, images, labels, dataclasses.replace(recipe, update="weights"))
    loss = torch.nn.functional.cross_entropy(model(images), labels)
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradient = dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))
    seen = dataclasses.replace(seen, returned=gradient, recipe=recipe)
    problem = build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8)).to(torch.float64)
    equations = residuals(problem, problem.targets(labels), math.inf, 0)
    near = equations.calibrated(torch.full((2, 1, 8, 8), 0.5, dtype=torch.float64))
    assert 0.5 < float(near(images.double()).square().mean()) < 2
