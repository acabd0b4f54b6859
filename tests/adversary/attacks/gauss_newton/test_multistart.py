from __future__ import annotations

import math

import pytest
import torch

from adversary import ThreatModel, TrainingRecipe
from adversary.attacks.gauss_newton import multistart as module
from adversary.attacks.gauss_newton.multistart import (
    AnnealingLevel,
    multistart,
    standard_normal_prior,
)
from adversary.attacks.gauss_newton.principal_components import SubspaceResiduals
from adversary.optim.search import Limits, Search
from adversary.priors.smooth import smooth_prior
from adversary.problem.problem import build_problem
from adversary.problem.residuals import residuals


@pytest.mark.parametrize("batch_size", [3, 1], ids=["one step", "three steps"])
def test_scouts_come_nearer_to_the_update_than_the_mean(tiny_net, update, monkeypatch, batch_size):
    monkeypatch.setattr(
        module,
        "ANNEALING_LEVELS",
        (AnnealingLevel(3, 3.0, 2, 8, 1.0), AnnealingLevel(8, 3.0, 1, 8, 0.5)),
    )
    prior = smooth_prior((1, 8, 8))
    images = prior.sample(3, generator=torch.Generator().manual_seed(0)).float()
    labels = torch.tensor([0, 1, 0])
    seen = update(tiny_net(seed=3), images, labels, TrainingRecipe(lr=0.1, batch_size=batch_size))
    problem = build_problem(
        seen, ThreatModel(labels=labels), tiny_net(seed=3), image_shape=(1, 8, 8)
    )
    problem = problem.to(torch.float64)
    equations = residuals(problem, problem.targets(labels), math.inf, 0)
    found = multistart(equations, prior, Search("test", 0, Limits()))
    mean = prior.mean.repeat(3, 1, 1, 1)
    assert equations(found).norm() < 0.1 * equations(mean).norm()
    together = (found - images).sum(0).norm() / (mean - images).sum(0).norm()
    assert together < (0.1 if batch_size == 3 else 1)  # one step tells their sum


def test_scouts_out_of_time_begin_no_further_level(tiny_net, update, monkeypatch):
    monkeypatch.setattr(
        module,
        "ANNEALING_LEVELS",
        (AnnealingLevel(3, 3.0, 2, 8, 1.0), AnnealingLevel(8, 3.0, 1, 8, 0.5)),
    )
    counts = []

    class Counted(SubspaceResiduals):
        def __init__(self, equations, prior, count, **options):
            counts.append(count)
            super().__init__(equations, prior, count, **options)

    monkeypatch.setattr(module, "SubspaceResiduals", Counted)
    images, labels = torch.rand(3, 1, 8, 8), torch.tensor([0, 1, 0])
    seen = update(tiny_net(seed=3), images, labels, TrainingRecipe(lr=0.1, batch_size=3))
    problem = build_problem(
        seen, ThreatModel(labels=labels), tiny_net(seed=3), image_shape=(1, 8, 8)
    )
    problem = problem.to(torch.float64)
    equations = residuals(problem, problem.targets(labels), math.inf, 0)
    found = multistart(equations, smooth_prior((1, 8, 8)), Search("test", 0, Limits(evaluations=1)))
    assert counts == [3]
    assert found.shape == images.shape
    assert found.isfinite().all()


def test_the_standard_distribution_leaves_coordinates_as_they_are():
    z = torch.randn(2, 1, 1, 5, generator=torch.Generator().manual_seed(0)).double()
    prior = standard_normal_prior(z)
    torch.testing.assert_close(prior.whiten(z), z.flatten(1))
    torch.testing.assert_close(prior.precision(), torch.eye(5).double())
