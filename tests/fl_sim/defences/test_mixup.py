"""MixUp trains on what the paper says, with soft labels."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, kstest

from adversary.observation.blending import beta_share
from adversary.observation.recipe import TrainingRecipe
from fl_sim.defences import DefenceError, create
from fl_sim.defences.mixup import MixUp
from fl_sim.models import create as create_model
from fl_sim.training.local_training import LOSSES

RECIPE = TrainingRecipe(lr=0.1, batch_size=3)


def net(outputs):
    return create_model("lenet", channels=1, image_size=8, outputs=outputs, seed=2)


@given(st.integers(1, 6), st.integers(0, 99))
def test_a_blend_is_one_share_of_two_of_the_batch(size, seed):
    draw = torch.Generator().manual_seed(seed)
    images = torch.rand(size, 1, 2, 2, generator=draw, dtype=torch.float64)
    labels = torch.arange(size)
    seen = MixUp().blends(
        images, labels, RECIPE, [torch.arange(size)], outputs=size, generator=draw
    )
    blended, soft = seen.images, seen.labels
    # The soft labels name the pair and the share: the images must be the same combination.
    torch.testing.assert_close(blended, (soft @ images.flatten(1)).view_as(images))
    torch.testing.assert_close(soft.sum(1), torch.ones(size, dtype=torch.float64))
    assert int((soft > 1e-9).sum(1).max()) <= 2
    named = torch.zeros_like(soft).scatter(1, seen.sources, 1.0)
    assert bool((named[soft > 1e-9] == 1).all())


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_the_share_is_beta_distributed(alpha):
    draw = torch.Generator().manual_seed(0)
    shares = np.array([beta_share(alpha, draw) for _ in range(400)])
    assert kstest(shares, beta(alpha, alpha).cdf).pvalue > 0.01


@pytest.mark.parametrize("loss", ["cross-entropy", "bce"])
def test_training_is_sgd_on_the_blends(loss):
    outputs = 3 if loss == "cross-entropy" else 1
    recipe = dataclasses.replace(RECIPE, loss=loss)
    images = torch.rand(7, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 1, 1, 0, 0, 1, 1])
    batches = [torch.tensor([4, 1, 0]), torch.tensor([2, 3, 5]), torch.tensor([6])]
    found = net(outputs)
    value = create("mixup").train(
        found, images, labels, recipe, batches, generator=torch.Generator().manual_seed(5)
    )
    expected, draw, losses = net(outputs), torch.Generator().manual_seed(5), []
    for b in batches:
        share, other = beta_share(1.0, draw), torch.randperm(len(b), generator=draw)
        logits = expected(share * images[b] + (1 - share) * images[b[other]])
        # The paper's own form: the loss is linear in the labels.
        one, two = LOSSES[loss](logits, labels[b]), LOSSES[loss](logits, labels[b[other]])
        total = share * one + (1 - share) * two
        losses.append(float(total.detach()) * len(b))
        expected.zero_grad()
        total.backward()
        with torch.no_grad():
            for p in expected.parameters():
                p -= recipe.lr * p.grad
    assert value == pytest.approx(sum(losses) / 7, rel=1e-5)
    for p, q in zip(found.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)


def test_it_needs_two_images_a_batch_and_draws_from_its_generator_alone():
    with pytest.raises(DefenceError, match=r"^local.batch-size = 1: mixup .* must be >= 2$"):
        create("mixup").recipe(dataclasses.replace(RECIPE, batch_size=1))
    images, labels = torch.rand(3, 1, 8, 8), torch.tensor([0, 1, 2])
    ends = []
    for globally, own in ((1, 7), (2, 7), (1, 8)):
        torch.manual_seed(globally)
        model, draw = net(3), torch.Generator().manual_seed(own)
        create("mixup").train(model, images, labels, RECIPE, [torch.arange(3)], generator=draw)
        ends.append(copy.deepcopy(model.head.weight))
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])
