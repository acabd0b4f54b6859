"""What follows from settings alone."""

import pytest
import torch

from fl_sim.settings.derived import device, image_shape
from fl_sim.settings.parse import parse
from fl_sim.settings.rules import SettingsError


def test_images_have_channels_before_height_and_width():
    assert image_shape(parse({"data.channels": 3, "data.image-size": 32})) == (3, 32, 32)


def test_a_device_that_is_not_there_is_a_mistake_in_the_settings():
    assert device(parse({"device": "cpu"})) == torch.device("cpu")
    with pytest.raises(SettingsError, match="device = 'cuda:9999'"):
        device(parse({"device": "cuda:9999"}))
