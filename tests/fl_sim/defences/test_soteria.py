"""The criterion against the exact Jacobian, and the attack that defeats it."""

from __future__ import annotations

import math

import pytest
import torch
from torch.func import jacrev

from adversary.observation.channel import Channel
from adversary.observation.mechanisms.representation_pruning import sensitivity_scores
from fl_sim.defences import create


@pytest.mark.parametrize("model", ["convnet", "resnet18-sigmoid"])
@pytest.mark.parametrize("seed", range(2))
def test_the_criterion_is_that_of_the_jacobian(model, seed, client):
    update = client(model=model, images=3, seed=seed)
    net = update.model.eval()
    exact = torch.zeros(net.head.in_features)
    for image in update.images:
        rows = jacrev(lambda x: net.encode(x[None])[0])(image).flatten(1)
        exact += (net.encode(image[None])[0].abs() / rows.norm(dim=1) / 3).detach()
    found = sensitivity_scores(net.encode, update.images, torch.Generator().manual_seed(seed))
    assert float(((found / exact).log()).std()) < 0.15
    assert float((found / exact).median()) == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("percentage", [5.0, 50.0])
def test_columns_of_the_last_layer_stay_and_nothing_else(percentage, client, seen):
    update = client(images=2)
    before = {n: v.clone() for n, v in update.model.state_dict().items()}
    left = seen(create("soteria", {"percentage": str(percentage)}), update).returned
    changed = {n for n, v in left.items() if not torch.equal(v, update.returned[n])}
    assert changed == {"head.weight"}
    pruned = (left["head.weight"] == update.sent["head.weight"]).all(0)
    assert int(pruned.sum()) == math.ceil(percentage / 100 * len(pruned))
    assert all(torch.equal(v, before[n]) for n, v in update.model.state_dict().items())


def test_leaving_the_pruned_part_out_defeats_it(client, seen, psnr_of_dlg):
    update = client()
    defence = create("soteria", {"percentage": "50"})
    observation = seen(defence, update)
    assert psnr_of_dlg(observation, defence.channel(observation), update) > 60
    assert psnr_of_dlg(observation, Channel(), update) < 30
