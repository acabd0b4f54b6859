"""What is frozen neither moves nor is matched."""

from __future__ import annotations

import copy

import pytest
import torch

from adversary.observation.recipe import TrainingRecipe
from adversary.observation.threat_model import ThreatModel
from adversary.problem.problem import build_problem
from adversary.problem.update_models import unrolled
from fl_sim.defences import LocalUpdate, create
from fl_sim.models import create as create_model
from fl_sim.models.freezing import trainable_state_dict
from fl_sim.training.local_training import train

RECIPE = TrainingRecipe(lr=0.1, batch_size=2, local_epochs=2)


def trained(defence):
    model = defence.model(create_model("resnet18", channels=1, image_size=32, outputs=3, seed=1))
    sent = copy.deepcopy(trainable_state_dict(model))
    images = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    recipe = defence.recipe(RECIPE)
    labels = torch.tensor([0, 2])
    train(model, images, labels, recipe, [torch.arange(2)] * 2, device="cpu")
    return LocalUpdate(
        sent=sent, returned=trainable_state_dict(model), model=model, recipe=recipe, images=images,
        labels=labels,
    )  # fmt: skip


@pytest.mark.parametrize("part", ["all-but-last", "middle", "batch-norm"])
def test_what_is_frozen_is_neither_sent_nor_matched(part, seen):
    defence = create("freezing", {"part": part})
    update = trained(defence)
    observation = seen(defence, update)
    moved = {n for n, v in observation.returned.items() if not torch.equal(v, update.sent[n])}
    head, stem = {"head.weight", "head.bias"}, "body.conv1.weight"
    expected = {
        "all-but-last": moved == head,
        "middle": moved == head | {stem},
        "batch-norm": head | {stem} < moved,
    }
    assert expected[part]
    assert moved == set(update.sent)
    model = defence.model(create_model("resnet18", channels=1, image_size=32, outputs=3, seed=1))
    threat = ThreatModel(channel=defence.channel(observation))
    problem = build_problem(observation, threat, model, image_shape=(1, 32, 32))
    assert set(problem.gradient) == set(problem.parameters) == moved
    found = unrolled(problem, problem.parameters, update.images, problem.targets(update.labels))
    for name, told in problem.gradient.items():
        error = float((found[name] - told).norm() / told.norm())
        assert error < 1e-3


@pytest.mark.parametrize("part", ["all-but-last", "batch-norm"])
def test_statistics_stand_still(part):
    update = trained(create("freezing", {"part": part}))
    plain = create_model("resnet18", channels=1, image_size=32, outputs=3, seed=1)
    statistics = dict(plain.named_buffers())
    assert statistics
    now = dict(update.model.named_buffers())
    assert all(torch.equal(now[n], v) for n, v in statistics.items())
    assert not statistics.keys() & update.returned.keys()
