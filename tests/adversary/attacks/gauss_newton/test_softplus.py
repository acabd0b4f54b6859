from __future__ import annotations

import pytest
import torch
from torch import nn

from adversary import ThreatModel, TrainingRecipe
from adversary.attacks.gauss_newton.softplus import has_relu, with_softplus
from adversary.problem.problem import build_problem


def relu_problem(tiny_net, update):
    model = tiny_net(seed=0)
    model.body[2], model.body[4] = nn.ReLU(), nn.Sequential(nn.ReLU())
    images, labels = torch.rand(1, 1, 8, 8), torch.tensor([1])
    seen = update(model, images, labels, TrainingRecipe(lr=0.1, batch_size=1))
    return build_problem(seen, ThreatModel(labels=labels), model, image_shape=(1, 8, 8)).to(
        torch.float64
    )


def test_sharper_networks_tend_to_that_of_relus(tiny_net, update):
    problem = relu_problem(tiny_net, update)
    x = torch.rand(1, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    targets = problem.targets(torch.tensor([1]))

    def gradient(problem):
        found = problem.expected(problem.parameters, x, targets)
        return torch.cat([g.flatten() for g in found.values()])

    exact = gradient(problem)
    away = [
        float((gradient(with_softplus(problem, sharpness, x)) - exact).norm() / exact.norm())
        for sharpness in (3.0, 1e3, 1e7)
    ]
    assert away == sorted(away, reverse=True)
    assert away[-1] < 1e-5 < away[0]


def test_only_relus_are_kinks_and_the_problem_keeps_its_own(tiny_net, update):
    problem = relu_problem(tiny_net, update)
    assert has_relu(problem.model)
    images = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    assert not has_relu(with_softplus(problem, 10.0, images).model)
    assert has_relu(problem.model)
    assert not has_relu(tiny_net())


def test_the_sharpness_is_in_units_of_a_layers_inputs(tiny_net, update):
    problem = relu_problem(tiny_net, update)
    x = torch.rand(1, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    first = with_softplus(problem, 10.0, x).model.body[2]
    inputs = problem.model.body[:2](x)
    assert first.beta == pytest.approx(10.0 / float(inputs.square().mean().sqrt()))
