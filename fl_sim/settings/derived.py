"""What follows from settings alone: the device, and the shape of images."""

from __future__ import annotations

import torch

from adversary.common.torch_state import resolve_device
from fl_sim.settings.rules import SettingsError
from fl_sim.settings.schema import Settings


def image_shape(settings: Settings) -> tuple[int, int, int]:
    """Return (C, H, W) of the images."""
    return settings.data.channels, settings.data.image_size, settings.data.image_size


def device(settings: Settings) -> torch.device:
    """Return the device that the settings name, or raise :class:`SettingsError`."""
    try:
        return resolve_device(settings.device)
    except ValueError as error:
        raise SettingsError(str(error)) from error
