from __future__ import annotations

import math

import pytest
import torch

from adversary import Prior, ThreatModel, TrainingRecipe
from adversary.attacks import MostProbable
from adversary.attacks import most_probable as module
from adversary.attacks.most_probable import misfit_cost
from adversary.problem.problem import build_problem


def xrays(count, seed):
    draw = torch.Generator().manual_seed(seed)
    waves = torch.linspace(0, math.pi, 8).mul(torch.arange(1, 4)[:, None]).cos()
    weights = 0.06 * torch.randn(count, 1, 3, 3, generator=draw)
    return (0.5 + torch.einsum("ncij,ia,jb->ncab", weights, waves, waves)).clamp(0, 1)


@pytest.mark.parametrize(("count", "unknowns"), [(100, 10), (10, 100)])
def test_the_cost_of_the_misfit_is_smooth_and_grows(count, unknowns):
    free = min(count, unknowns)
    total = torch.linspace(0, 5 * (count + free), 2001, dtype=torch.float64).requires_grad_()
    cost = misfit_cost(total, count, unknowns)
    slope = torch.autograd.grad(cost.sum(), total)[0]
    assert bool((slope > 0).all())
    assert bool((slope.diff() <= 1e-12).all())  # never steeper than for noise
    steps = cost.detach().diff()
    assert float(steps.max()) <= float(total.detach().diff().max()) * (1 + 1e-9)  # no jump
    assert float(steps.min()) > 0  # neither up nor down
    within = total <= count + free
    assert torch.equal(cost[within], total[within])


def test_far_off_a_tenth_of_the_misfit_counts_by_the_unknowns_alone():
    far = torch.tensor([1e9, 1e10], dtype=torch.float64)
    one, ten = misfit_cost(far, 1000, 50).tolist()
    assert ten - one == pytest.approx(50 * math.log(10), rel=1e-4)


@pytest.mark.parametrize(("batch_size", "labels"), [(1, [0]), (2, [0, 1]), (1, [1, 2])])
def test_images_are_found_in_one_step_and_in_several(tiny_net, update, batch_size, labels):
    model, truth = tiny_net(seed=1), xrays(len(labels), 5)
    recipe = TrainingRecipe(lr=0.1, batch_size=batch_size)
    seen = update(model, truth, torch.tensor(labels), recipe)
    problem = build_problem(
        seen, ThreatModel(), model, image_shape=(1, 8, 8), prior=Prior(xrays(24, 99))
    )
    found = MostProbable(iterations=400).run(problem, seed=1)
    assert sorted(found.labels.tolist()) == labels
    mean = Prior(xrays(24, 99)).mean
    order = [1, 0] if found.labels.tolist() != labels else list(range(len(labels)))
    error = (found.images[order] - truth).square().mean()
    assert float(error) < 0.02 * float((mean - truth).square().mean())


def test_wrong_labels_lose_against_right_ones(tiny_net, update):
    model, truth = tiny_net(seed=1), xrays(1, 7)
    seen = update(model, truth, torch.tensor([2]), TrainingRecipe(lr=0.1, batch_size=1))
    scores = {}
    for label in range(3):
        threat = ThreatModel(labels=torch.tensor([label]))
        problem = build_problem(
            seen, threat, model, image_shape=(1, 8, 8), prior=Prior(xrays(24, 99))
        )
        scores[label] = MostProbable(iterations=60).run(problem, seed=1).score
    assert min(scores, key=scores.__getitem__) == 2


@pytest.mark.parametrize("order", [(2, 0), (0, 2)])
def test_the_labels_that_gain_most_at_first_go_on(order, tiny_net, update, monkeypatch):
    monkeypatch.setattr(
        module, "likely_labels", lambda *_: [torch.tensor([label]) for label in order]
    )
    monkeypatch.setattr(MostProbable, "SCOUT", 15)
    seen = update(
        tiny_net(seed=1), xrays(1, 7), torch.tensor([2]), TrainingRecipe(lr=0.1, batch_size=1)
    )
    problem = build_problem(
        seen, ThreatModel(), tiny_net(seed=1), image_shape=(1, 8, 8), prior=Prior(xrays(24, 99))
    )
    assert MostProbable(iterations=20).run(problem, seed=1).labels.tolist() == [2]
