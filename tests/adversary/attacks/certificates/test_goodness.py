"""The chi-square test accepts the truth and rejects what is wrong, over many draws of the noise."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from adversary import ThreatModel, TrainingRecipe
from adversary.attacks.certificates import goodness
from adversary.attacks.certificates.goodness import (
    MAX_ROUNDING_RATIO,
    MAX_SIGMAS,
    Goodness,
    deviation,
)
from adversary.observation.channel import Channel
from adversary.problem.problem import build_problem
from adversary.problem.residuals import residuals

IMAGES = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(5))
LABEL = torch.tensor([1])
DRAWS = 200


def posed(tiny_net, update, noise, *, seed=0, channel=None):
    """Return the problem of an update with noise of ``noise`` times its root mean square."""
    model = tiny_net(seed=1)
    seen = update(model, IMAGES, LABEL, TrainingRecipe(lr=0.1, batch_size=1))
    draw = torch.Generator().manual_seed(seed)
    level = {
        name: noise * float((value - seen.sent[name]).square().mean().sqrt())
        for name, value in seen.returned.items()
    }
    returned = {
        name: value + level[name] * torch.randn(value.shape, generator=draw)
        for name, value in seen.returned.items()
    }
    seen = dataclasses.replace(seen, returned=returned)
    known = Channel(noise=level if noise else {}) if channel is None else channel
    threat = ThreatModel(channel=known)
    return build_problem(seen, threat, model, image_shape=(1, 8, 8), dtype=torch.float64)


def fit(problem, label=LABEL, images=IMAGES):
    found = residuals(problem, problem.targets(label), math.inf, 0)
    equations = found.calibrated(images.double(), 0)
    return goodness(equations, equations(images.double()), 0.0)


def test_the_truth_is_rejected_as_seldom_as_the_normal_distribution_says(tiny_net, update):
    deviations = [fit(posed(tiny_net, update, 0.3, seed=seed)).deviation for seed in range(DRAWS)]
    beyond = sum(abs(deviation) > 2 for deviation in deviations) / DRAWS
    assert 0.01 < beyond < 0.10  # 4.6 % of a normal distribution; three standard errors
    assert max(map(abs, deviations)) < MAX_SIGMAS
    assert torch.tensor(deviations).std() == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("noise", [0.03, 0.3])
def test_a_wrong_label_is_rejected_whatever_the_draw(tiny_net, update, noise):
    for seed in range(20):
        problem = posed(tiny_net, update, noise, seed=seed)
        assert fit(problem).explained
        assert not fit(problem, torch.tensor([2])).explained


def test_wrong_images_are_rejected_under_rounding_alone(tiny_net, update):
    problem = posed(tiny_net, update, 0.0)
    right, wrong = fit(problem), fit(problem, images=1 - IMAGES)
    assert right.explained
    assert right.deviation == 0
    assert right.rounded < 0.75 * MAX_ROUNDING_RATIO
    assert not wrong.explained


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_noise_of_another_size_than_is_told_is_rejected_either_way(tiny_net, update, factor):
    told = posed(tiny_net, update, 0.3 * factor).threat.channel
    found = fit(posed(tiny_net, update, 0.3, channel=told))
    assert not found.explained
    assert (found.deviation < 0) == (factor > 1)


def test_parameters_that_were_fitted_are_allowed_for(tiny_net, update):
    problem = posed(tiny_net, update, 0.3)
    equations = residuals(problem, problem.targets(LABEL), math.inf, 0)
    equations = equations.calibrated(IMAGES.double(), 0)
    count = len(equations)
    exact = torch.full((count,), math.sqrt(1 - 64 / count), dtype=torch.float64)
    assert goodness(equations, exact, 64.0).deviation == pytest.approx(0, abs=1e-9)
    assert goodness(equations, exact, 0.0).deviation == pytest.approx(-64 / math.sqrt(2 * count))


@pytest.mark.parametrize(("count", "determined"), [(1, 0), (4, 1), (60, 40), (5000, 700)])
def test_a_sum_of_squares_lies_off_as_a_normal_value_does(count, determined):
    draw = torch.Generator().manual_seed(count)
    left = torch.randn(4000, count - determined, generator=draw).square().sum(1)
    off = torch.tensor([deviation(float(one), count, determined) for one in left])
    assert float(off.mean()) == pytest.approx(0, abs=0.1)
    assert float(off.std()) <= 1.1  # less where a fit took some of it
    assert float(off.abs().max()) < MAX_SIGMAS
    assert deviation(count + 8 * math.sqrt(2 * count), count, 0.0) > MAX_SIGMAS / 2
    assert deviation(1e-9, 5000, 0.0) < -MAX_SIGMAS


def test_arrays_of_opposite_drift_are_seen_though_their_sum_is_as_expected(tiny_net, update):
    problem = posed(tiny_net, update, 0.3)
    equations = residuals(problem, problem.targets(LABEL), math.inf, 0)
    equations = equations.calibrated(IMAGES.double(), 0)
    counts = equations.counts.tolist()
    largest = max(range(len(counts)), key=counts.__getitem__)
    total, own = sum(counts), counts[largest]
    parts = [
        torch.full((n,), 1.5 if i == largest else (total - 1.5 * own) / (total - own)).sqrt()
        for i, n in enumerate(counts)
    ]
    residual = torch.cat(parts).double()
    none = [0.0] * len(counts)
    whole, by_array = goodness(equations, residual, 0.0), goodness(equations, residual, 0.0, none)
    assert whole.explained
    assert by_array.deviation == pytest.approx(0, abs=1e-5)
    assert not by_array.explained


@pytest.mark.parametrize("size", [0.5, 1.5])
def test_the_worst_array_is_the_farthest_off_on_either_side(tiny_net, update, size):
    problem = posed(tiny_net, update, 0.3)
    equations = residuals(problem, problem.targets(LABEL), math.inf, 0)
    equations = equations.calibrated(IMAGES.double(), 0)
    counts = equations.counts.tolist()
    largest = max(range(len(counts)), key=counts.__getitem__)
    parts = [torch.full((n,), size if i == largest else 1.0) for i, n in enumerate(counts)]
    found = goodness(equations, torch.cat(parts).double().sqrt(), 0.0, [0.0] * len(counts))
    own = counts[largest]
    assert found.worst == pytest.approx(deviation(size * own, own, 0.0), rel=1e-6)
    assert abs(found.worst) > MAX_SIGMAS


@pytest.mark.parametrize(
    ("deviation", "worst", "rounded", "explained"),
    [(0, 0, 0, True), (4.9, 4.9, 1, True), (-4.9, -4.9, 1, True), (5.1, 0, 1, False),
     (-5.1, 0, 1, False), (0, 5.1, 1, False), (0, -5.1, 1, False), (0, 0, 1.9, True),
     (0, 0, 2.1, False), (math.nan, 0, 1, False), (0, 0, math.nan, False)],
)  # fmt: skip
def test_the_sum_each_array_and_rounding_must_fit(deviation, worst, rounded, explained):
    found = Goodness(chi_square=1.0, deviation=deviation, worst=worst, rounded=rounded)
    assert found.explained is explained
