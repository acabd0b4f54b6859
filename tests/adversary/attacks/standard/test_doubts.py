from __future__ import annotations

import dataclasses

import pytest
import torch

from adversary import ThreatModel, TrainingRecipe
from adversary.attacks.standard import doubts as module
from adversary.attacks.standard.doubts import doubts
from adversary.observation.channel import Channel
from adversary.problem.problem import build_problem


@pytest.fixture
def changed(tiny_net, update, monkeypatch):
    """Return an update whose moves a function changes, as a problem."""
    monkeypatch.setattr(module, "MAX_QUANTISED_LEVELS", 16)

    def make(change, channel=None, **options):
        model = tiny_net(seed=1, **options)
        recipe = TrainingRecipe(lr=0.1, batch_size=1)
        images = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(1))
        seen = update(model, images, torch.tensor([1]), recipe)
        returned = {
            n: seen.sent[n] + change(v - seen.sent[n]) if v.is_floating_point() else v
            for n, v in seen.returned.items()
        }
        seen = dataclasses.replace(seen, returned=returned)
        threat = ThreatModel(channel=channel(seen) if channel else Channel())
        return build_problem(seen, threat, model, image_shape=(1, 8, 8))

    return make


def largest(moved):
    flat = moved.abs().flatten()
    return moved * (moved.abs() >= flat.kthvalue(max(1, int(0.9 * len(flat)))).values)


def test_an_untouched_update_raises_no_doubt(changed):
    assert doubts(changed(lambda moved: moved)) == ()
    noisy = changed(lambda moved: moved + 0.01 * torch.randn_like(moved))
    assert doubts(noisy) == ()


@pytest.mark.parametrize(
    "change",
    [largest, lambda moved: moved.sign() * moved.abs().mean(), lambda moved: 10 * moved.sign()],
    ids=["top", "signs", "signs beyond the weights, by which they are rounded"],
)
def test_compression_that_nobody_told_of_is_seen(changed, change):
    assert doubts(changed(change)) == ("channel-not-modelled",)


def silent(moved):
    """Return an update in which three of five units of a layer are off."""
    off = (torch.arange(len(moved)) % 5 > 1).view(-1, *[1] * (moved.ndim - 1))
    return moved.masked_fill(off, 0.0) if moved.ndim > 1 else moved


def test_units_that_are_off_for_all_images_are_no_doubt(changed):
    assert doubts(changed(silent)) == ()
    columns = changed(lambda moved: silent(moved.mT).mT if moved.ndim == 2 else moved)
    assert doubts(columns) == ()
    assert doubts(changed(lambda moved: largest(silent(moved)))) == ("channel-not-modelled",)


def test_entries_that_the_channel_says_were_left_out_are_no_doubt(changed):
    def told(seen):
        return Channel(observed={n: v != seen.sent[n] for n, v in seen.returned.items()})

    assert doubts(changed(largest, told)) == ()


def test_counters_that_tell_other_steps_contradict_the_recipe(changed):
    problem = changed(lambda moved: moved, norm=True)
    assert doubts(problem) == ()
    name = "body.1.num_batches_tracked"
    returned = {**problem.observation.returned}
    returned[name] = returned[name] + 3
    seen = dataclasses.replace(problem.observation, returned=returned)
    problem = dataclasses.replace(problem, observation=seen)
    assert doubts(problem) == ("recipe-contradicted",)
