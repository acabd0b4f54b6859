from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from adversary.identification.public_company import IMAGES, company, public_batches
from adversary.identification.rehearsal import Rehearsal
from adversary.observation.recipe import TrainingRecipe

LAYERS = ["1", "4"]


def network(affine=True):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3, affine=affine), nn.ReLU(),
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=affine), nn.ReLU(),
        nn.Flatten(), nn.Linear(4 * 16, 2),
    )  # fmt: skip


def batches(count, size=5):
    draws = torch.Generator().manual_seed(1)
    return [
        (
            torch.rand(size, 1, 8, 8, generator=draws),
            functional.one_hot(torch.randint(2, (size,), generator=draws), 2).float(),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("loss", ["cross-entropy", "bce"])
def test_it_is_what_training_itself_makes_of_the_batches(loss):
    model, some = network(), batches(3)
    state = {n: v.clone() for n, v in model.state_dict().items()}
    found = company(model, LAYERS, state, some, TrainingRecipe(lr=0.1, batch_size=5, loss=loss))
    total = {name: torch.zeros(4, found[name].mean.numel()) for name in LAYERS}
    for images, targets in some:
        own = copy.deepcopy(model)
        for name in LAYERS:
            own.get_submodule(name).momentum = 1.0  # the buffers are those of the batch
        out = own(images)
        (
            functional.cross_entropy(out, targets)
            if loss == "cross-entropy"
            else functional.binary_cross_entropy_with_logits(out, targets)
        ).backward()
        for name in LAYERS:
            layer = own.get_submodule(name)
            total[name] += torch.stack([
                layer.running_mean, layer.running_var, layer.bias.grad, layer.weight.grad
            ]) / 3  # fmt: skip
    for name, one in found.items():
        theirs = torch.stack([one.mean, one.variance, one.by_shift, one.by_scale])
        torch.testing.assert_close(theirs, total[name], rtol=1e-4, atol=1e-6)
    assert all(torch.equal(v, state[n]) for n, v in model.state_dict().items())


def test_layers_without_shift_and_scale_have_no_pull():
    model = network(affine=False)
    recipe = TrainingRecipe(lr=0.1, batch_size=5)
    found = company(model, LAYERS, dict(model.state_dict()), batches(2), recipe)
    assert not bool(found["4"].by_shift.any())
    assert not bool(found["4"].by_scale.any())


def test_public_batches_are_of_all_rehearsals_in_turn():
    made = [
        Rehearsal(
            weights=[], root=[], batches=[torch.tensor([0, 1]), torch.tensor([2])],
            examples=(torch.full((3, 1, 1, 1), float(one)), torch.arange(3.0)[:, None]),
        )
        for one in range(2)
    ]  # fmt: skip
    found = public_batches(made, 2)
    assert [float(images[0]) for images, _ in found] == [0.0, 1.0, 0.0, 1.0]
    assert [targets.flatten().tolist() for _, targets in found] == [[0, 1], [0, 1], [2], [2]]
    assert len(public_batches(made, IMAGES)) == 1
