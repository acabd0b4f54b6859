from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from adversary import ThreatModel, TrainingRecipe
from adversary.attacks import GaussNewton
from adversary.attacks.gauss_newton.activation_unknowns import (
    ActivationResiduals,
    solve_activations,
)
from adversary.observation.channel import Channel
from adversary.optim.levenberg_marquardt import DescentOptions, Iterate
from adversary.optim.prior_terms import GaussianTerm, NoPriorTerm
from adversary.optim.search import Limits, Search
from adversary.priors.smooth import smooth_prior
from adversary.problem.problem import build_problem
from adversary.problem.residuals import residuals


class Residual(nn.Module):
    """A block whose one ReLU is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(6, 6, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(x + self.inner(self.relu(x)))


def relu_problem(tiny_net, update, *, seed=0, batch=1, channel=None, **recipe):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        block = Residual()
    model = tiny_net(seed=seed)
    model.body[2], model.body[4] = block, nn.ReLU()
    noise = torch.rand(batch, 1, 2, 2, generator=torch.Generator().manual_seed(seed))
    images = functional.interpolate(noise, size=(8, 8), mode="bicubic").clamp(0, 1)
    labels = torch.arange(batch) % 3
    recipe = TrainingRecipe(**{"lr": 0.1, "batch_size": batch, **recipe})
    seen = update(model, images, labels, recipe)
    threat = ThreatModel(labels=labels, channel=channel or Channel())
    problem = build_problem(seen, threat, model, image_shape=(1, 8, 8)).to(torch.float64)
    return problem, images.double(), problem.targets(labels)


def near(images, rms, seed=0):
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    return images + rms * noise.to(images)


def psnr(found, truth):
    return float(-10 * (found - truth).square().mean().log10())


@pytest.mark.parametrize("batch", [1, 3])
def test_with_switches_as_they_are_it_is_the_network_itself(tiny_net, update, batch):
    problem, images, targets = relu_problem(tiny_net, update, batch=batch)
    equations = residuals(problem, targets, math.inf, 0)
    switched, x = ActivationResiduals(equations), near(images, 0.1)
    inputs = switched.inputs(x)
    assert [len(z) for z in inputs] == [batch] * 3
    told = switched(x, [(z > 0).double() for z in inputs])
    torch.testing.assert_close(told, equations(x))


def test_rows_are_the_derivatives_in_pixels_and_switches(tiny_net, update):
    problem, images, targets = relu_problem(tiny_net, update, batch=2)
    equations = residuals(problem, targets, math.inf, 0)
    switched, x = ActivationResiduals(equations), near(images, 0.1)
    inputs = switched.inputs(x)
    rows = switched.rows(x, 5)
    assert rows.shape == (128 + 5, len(equations))
    torch.testing.assert_close(rows[:128], equations.rows(x))
    on = torch.cat([(z > 0).double().flatten() for z in inputs])
    distance = torch.cat([(z.abs() / z.square().mean().sqrt()).flatten() for z in inputs])

    def turned(unit, amount):
        moved = on.clone()
        moved[unit] += amount
        parts = moved.split([z.numel() for z in inputs])
        return switched(x, [p.view_as(z) for p, z in zip(parts, inputs, strict=True)])

    for row, unit in zip(rows[128:], distance.argsort()[:5], strict=True):
        slope = (turned(unit, 1e-4) - turned(unit, -1e-4)) / 2e-4
        torch.testing.assert_close(row, slope, rtol=1e-4, atol=1e-4 * float(row.abs().max()))


@pytest.mark.parametrize("penalty", [NoPriorTerm, lambda: GaussianTerm(smooth_prior((1, 8, 8)))])
@pytest.mark.parametrize("seed", range(2))
def test_units_on_the_wrong_side_are_found_out(tiny_net, update, penalty, seed):
    problem, images, targets = relu_problem(tiny_net, update, seed=seed)
    equations = residuals(problem, targets, math.inf, 0)
    start, switched = near(images, 0.05, seed), ActivationResiduals(equations)
    sides = [torch.cat([(z > 0).flatten() for z in switched.inputs(x)]) for x in (start, images)]
    assert int((sides[0] != sides[1]).sum()) > 3
    search = Search("test", 0)
    place = Iterate(start, equations(start))
    found = solve_activations(
        equations, place, penalty(), search, DescentOptions(iterations=12, target=2.0)
    )
    assert found.chi_square < 2
    assert psnr(found.images, images) > 60
    assert 0 < len(search.history) <= 12


def test_it_gives_up_where_the_misfit_does_not_fall_and_keeps_the_best(tiny_net, update):
    problem, images, targets = relu_problem(tiny_net, update)
    wrong = residuals(problem, targets.flip(1), math.inf, 0)
    search, start = Search("test", 0), near(images, 0.3)
    place = Iterate(start, wrong(start))
    found = solve_activations(wrong, place, NoPriorTerm(), search, DescentOptions(iterations=50))
    assert len(search.history) < 50
    assert found.chi_square <= place.chi_square


def test_limits_are_kept(tiny_net, update):
    problem, images, targets = relu_problem(tiny_net, update)
    equations = residuals(problem, targets, math.inf, 0)
    search = Search("test", 0, Limits(evaluations=1))
    place = Iterate(near(images, 0.3), equations(near(images, 0.3)))
    solve_activations(equations, place, NoPriorTerm(), search, DescentOptions(iterations=50))
    assert len(search.history) == 1
    assert search.stopped == "evaluations"


@pytest.mark.parametrize(
    ("options", "suits"),
    [
        ({}, True),
        ({"channel": Channel(clip=0.01)}, True),
        ({"channel": Channel(example_clip=0.5)}, False),
        ({"batch": 2, "batch_size": 1}, False),
    ],
)
def test_it_suits_updates_of_one_pass(tiny_net, update, options, suits):
    problem, _, _ = relu_problem(tiny_net, update, **options)
    assert ActivationResiduals.suits(problem) == suits


def test_the_attack_solves_a_network_of_relus_from_grey(tiny_net, update):
    model = tiny_net(seed=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, second = nn.Conv2d(1, 12, 3, padding=1), nn.Conv2d(12, 6, 3, stride=2, padding=1)
    model.body = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten())
    _, image, _ = relu_problem(tiny_net, update)
    seen = update(model, image.float(), torch.tensor([1]), TrainingRecipe(lr=0.1, batch_size=1))
    found = GaussNewton(prior="smooth").run(
        build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8))
    )
    assert "the noise floor is reached" in found.notes[0]
    assert psnr(found.images.double(), image) > 60
