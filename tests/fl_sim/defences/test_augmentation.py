"""Transforms do what they are named for, and truth follows them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from adversary.observation.observation import Observation
from fl_sim.defences import create
from fl_sim.defences.augmentation import (
    MOST_CONTRAST,
    MOST_GAMMA,
    MOST_ROTATION,
    MOST_SHIFT,
    MOST_STRETCH,
    MOST_ZOOM,
    TRANSFORMS,
)
from fl_sim.federation import build_federation

IMAGES = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def inputs(policy, strength=1.0, seed=0, images=IMAGES):
    defence = create("augmentation", {"policy": policy, "strength": str(strength)})
    return defence.inputs(images, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("policy", [*TRANSFORMS, "flip+shift+contrast", "shift + rotation"])
def test_images_stay_images_and_their_own(policy, channels):
    images = torch.rand(3, channels, 16, 16, generator=torch.Generator().manual_seed(1))
    before = images.clone()
    found = inputs(policy, images=images)
    assert torch.equal(images, before)
    assert (found.shape, found.dtype) == (images.shape, images.dtype)
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    assert not torch.equal(found, images)
    assert torch.equal(found, inputs(policy, images=images))
    assert not torch.equal(found, inputs(policy, seed=1, images=images))


@pytest.mark.parametrize("policy", [name for name in TRANSFORMS if name != "flip"])
def test_strength_zero_changes_nothing(policy):
    torch.testing.assert_close(inputs(policy, 0.0), IMAGES, rtol=0, atol=1e-6)


def test_a_shift_is_that_of_another_library():
    draw = torch.tensor([1.0, -0.5])
    found = TRANSFORMS["shift"](IMAGES[0], draw, 1.25)[0].numpy()  # 4 pixels right, 2 up
    pixels = round(MOST_SHIFT * 1.25 * 16)
    expected = ndimage.shift(IMAGES[0, 0].numpy(), (-pixels // 2, pixels), order=1)
    torch.testing.assert_close(found[:-2, 4:], expected[:-2, 4:], rtol=0, atol=1e-4)


def test_a_rotation_is_that_of_another_library():
    found = TRANSFORMS["rotation"](IMAGES[0], torch.tensor([1.0, 0.0]), 1.0)[0].numpy()
    expected = ndimage.rotate(IMAGES[0, 0].numpy(), -MOST_ROTATION, reshape=False, order=1)
    torch.testing.assert_close(found[4:12, 4:12], expected[4:12, 4:12], rtol=0, atol=1e-3)


@pytest.mark.parametrize("draw", [-1.0, 0.5])
def test_a_zoom_is_that_of_another_library(draw):
    found = TRANSFORMS["zoom"](IMAGES[0], torch.tensor([draw, 0.0]), 1.0)[0].numpy()
    scale, middle = 1 + draw * MOST_ZOOM, 7.5
    expected = ndimage.affine_transform(
        IMAGES[0, 0].numpy(), [1 / scale] * 2, middle - middle / scale, order=1
    )
    torch.testing.assert_close(found[4:12, 4:12], expected[4:12, 4:12], rtol=0, atol=1e-3)


@pytest.mark.parametrize("draws", [(1.0, -0.5), (-1.0, 0.3)])
def test_a_stretch_is_that_of_another_library(draws):
    found = TRANSFORMS["stretch"](IMAGES[0], torch.tensor(draws), 1.0)[0].numpy()
    inverse, middle = MOST_STRETCH ** -np.array(draws), 7.5  # of rows and columns
    expected = ndimage.affine_transform(
        IMAGES[0, 0].numpy(), inverse, middle - middle * inverse, order=1
    )
    torch.testing.assert_close(found[5:11, 5:11], expected[5:11, 5:11], rtol=0, atol=1e-3)


@pytest.mark.parametrize("draw", [-1.0, 0.4])
def test_contrast_stretches_about_the_mean_and_brightness_about_black(draw):
    image = 0.4 + 0.1 * IMAGES[0]
    factor = 1 + draw * MOST_CONTRAST
    draws = torch.tensor([draw, 0.0])
    stretched = image.mean() + factor * (image - image.mean())
    torch.testing.assert_close(TRANSFORMS["contrast"](image, draws, 1.0), stretched)
    torch.testing.assert_close(TRANSFORMS["brightness"](image, draws, 1.0), factor * image)


@pytest.mark.parametrize("draw", [-1.0, 0.5])
def test_gamma_is_a_power_that_leaves_black_and_white(draw):
    found = TRANSFORMS["gamma"](IMAGES[0], torch.tensor([draw, 0.0]), 0.8)
    torch.testing.assert_close(found, IMAGES[0] ** (MOST_GAMMA ** (0.8 * draw)))
    ends = torch.tensor([[[0.0, 1.0]]])
    assert torch.equal(TRANSFORMS["gamma"](ends, torch.tensor([draw, 0.0]), 1.0), ends)


def test_truth_is_what_the_network_saw(quick):
    run = build_federation(quick(defence__name="augmentation"), 3)
    state = run.model().state_dict()
    truths = [
        run.truth(
            Observation(
                round=r, client="client-01", sent=state, returned=state, num_examples=4,
                recipe=run.recipe,
            )
        )
        for r in (1, 2)
    ]  # fmt: skip
    for r, truth in zip((1, 2), truths, strict=True):
        assert torch.equal(truth.images, run.training_inputs(r, 1)[run.used_indices(r, 1)])
        assert not torch.equal(truth.images, run.parts[1].tensor(run.used_indices(r, 1)))
