"""What is frozen neither moves nor is matched."""

from __future__ import annotations

import copy

import pytest
import torch

from adversary.observation import TrainingRecipe
from adversary.problem import pose
from adversary.readings import unrolled
from adversary.threat import ThreatModel
from fl_sim.defences import LocalUpdate, create
from fl_sim.models import create as create_model
from fl_sim.training import train

RECIPE = TrainingRecipe(lr=0.1, batch_size=2, local_epochs=2)


def trained(defence):
    model = defence.model(create_model("resnet18", channels=1, image_size=32, outputs=3, seed=1))
    sent = copy.deepcopy(model.state_dict())
    images = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    recipe = defence.recipe(RECIPE)
    labels = torch.tensor([0, 2])
    train(model, images, labels, recipe, [torch.arange(2)] * 2, device="cpu")
    return LocalUpdate(
        sent=sent, returned=model.state_dict(), model=model, recipe=recipe, images=images,
        labels=labels,
    )  # fmt: skip


@pytest.mark.parametrize("part", ["body", "head", "batch-norm"])
def test_what_is_frozen_stands_still_and_is_not_matched(part, seen):
    defence = create("freezing", {"part": part})
    update = trained(defence)
    observation = seen(defence, update)
    moved = {n for n, v in observation.returned.items() if not torch.equal(v, update.sent[n])}
    head = {"head.weight", "head.bias"}
    assert {"body": moved == head, "head": not moved & head, "batch-norm": head < moved}[part]
    threat = ThreatModel(channel=defence.channel(observation))
    problem = pose(observation, threat, update.model, image_shape=(1, 32, 32))
    assert set(problem.gradient) == set(problem.parameters) == moved
    found = unrolled(problem, problem.parameters, update.images, problem.targets(update.labels))
    for name, told in problem.gradient.items():
        error = float((found[name] - told).norm() / told.norm())
        assert error < 1e-3


def test_statistics_stand_still():
    update = trained(create("freezing", {"part": "head"}))
    buffers = dict(update.model.named_buffers())
    assert buffers
    assert all(torch.equal(v, update.sent[n]) for n, v in buffers.items())
