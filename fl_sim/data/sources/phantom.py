"""Chest-like pictures drawn by rule: as many and as large as a test needs, of nobody.

A picture is a body, two lungs, spine, heart, diaphragm, ribs and collarbones as smooth shapes,
whose places, sizes and brightnesses vary from patient to patient, under a smooth random haze.
Half the patients have an opacity in one lung, label 1. Synthetic pictures say something about
utility and scale, nothing about what leaks of a real patient.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from adversary.common.seeding import generator
from fl_sim.data.sources.base import DatasetRequest, DatasetSource, reads

DEFAULT_IMAGES = 512

# Pixels drawn at once: bounds the memory of large sets.
_CHUNK_PIXELS = 2**20

# Uniform numbers that a patient is made of: its shapes, and the cosines of its haze.
_SHAPE_TRAITS = 28
_WAVES = 12
TRAITS = _SHAPE_TRAITS + 3 * _WAVES


@reads()
def source(request: DatasetRequest) -> DatasetSource:
    """Return ``num_images`` phantoms (512 for 0), one a patient.

    Phantom i of a seed looks the same however many there are, at any image size.
    """
    count = request.num_images or DEFAULT_IMAGES
    stream = generator(request.seed, "data", "phantom")
    uniform = torch.rand(count, TRAITS + 1, generator=stream)
    traits, labels = uniform[:, :TRAITS], (uniform[:, TRAITS] < 0.5).long()
    names = tuple(f"phantom-{i:05d}" for i in range(count))
    chunk = max(1, _CHUNK_PIXELS // request.image_size**2)

    def read(indices: np.ndarray) -> Tensor:
        index = torch.as_tensor(indices)
        images = torch.empty(
            (len(index), 1, request.image_size, request.image_size), dtype=torch.uint8
        )
        for start in range(0, len(index), chunk):
            rows = index[start : start + chunk]
            drawn = draw(traits[rows], labels[rows], request.image_size)
            images[start : start + chunk, 0] = drawn.mul(255).round().byte()
        return images.expand(-1, request.channels, -1, -1)

    return DatasetSource(
        name="phantom (synthetic)",
        labels=labels,
        patients=names,
        names=names,
        label_names=("clear", "opacity"),
        read=read,
        attribution="synthetic phantoms, no real patients",
        synthetic=True,
    )


def draw(traits: Tensor, labels: Tensor, image_size: int) -> Tensor:
    """Draw one phantom a row.

    Parameters
    ----------
    traits : Tensor
        (B, TRAITS) uniform in [0, 1], what makes a patient.
    labels : Tensor
        (B,) 1 where a lung has an opacity.
    image_size : int
        Side in pixels.

    Returns
    -------
    Tensor
        (B, image_size, image_size) in [0, 1].
    """
    shapes, waves = traits.split([_SHAPE_TRAITS, 3 * _WAVES], dim=1)
    columns = iter(shapes.unbind(dim=1))

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * next(columns)[:, None, None]

    axis = (torch.arange(image_size) + 0.5) / image_size * 2 - 1
    y, x = axis[:, None], axis[None, :]
    # Patients stand a little off centre, a little turned, and are of different size.
    scale, turn = between(0.9, 1.1), between(-0.06, 0.06)
    x, y = (
        (x - between(-0.06, 0.06) + turn * y) / scale,
        (y - between(-0.06, 0.06) - turn * x) / scale,
    )

    shoulder = _edge(y + 0.95 - 0.55 * x.abs() ** 2.5, 0.06)
    body = shoulder * _edge(between(0.88, 1.0) - x.abs(), 0.05)
    image = 0.04 + body * between(0.5, 0.62)

    width, height = between(0.31, 0.37), between(0.62, 0.74)
    floor = between(0.5, 0.65)
    lungs = []
    for sign in (-1, 1):
        centre = sign * (width + between(0.1, 0.16))
        # Narrow at the top, cut off below by the dome of the diaphragm.
        taper = width * (0.82 + 0.3 * y.clamp(-1, 1))
        radius = (((x - centre) / taper).abs() ** 2.4 + ((y + 0.08) / height).abs() ** 2.6) ** 0.4
        dome = floor + (0.05 if sign == 1 else 0.0) + 0.6 * (x - centre) ** 2
        lungs.append(_edge(1 - radius, 0.07) * _edge(dome - y, 0.04))
    lung = lungs[0] + lungs[1]
    heart = ((x - between(0.1, 0.2)) / between(0.3, 0.4)) ** 2 + (
        (y - between(0.26, 0.36)) / between(0.32, 0.4)
    ) ** 2
    # The heart hides the lung behind it and hardly shows where there is none.
    shadow = _edge(1 - heart, 0.12)
    lung = lung * (1 - between(0.75, 0.95) * shadow)
    image = image - between(0.3, 0.42) * lung * body

    spine = torch.exp(-((x / 0.1) ** 2))
    image = image + (between(0.1, 0.18) * spine + 0.05 * shadow) * body

    ribs = torch.cos(2 * math.pi * (between(4.2, 5.2) * (y - 0.35 * x**2) + between(0, 1)))
    image = image + between(0.03, 0.06) * ribs.clamp(min=0) ** 2 * (0.3 + lung) * body
    collarbone = torch.exp(-(((y + between(0.66, 0.76) + 0.18 * x.abs()) / 0.035) ** 2))
    image = image + between(0.06, 0.12) * collarbone * _edge(x.abs() - 0.12, 0.03) * body

    # Opacity: a soft cloud in one lung, its outline ruffled.
    side = between(-1, 1).sign()
    dx, dy = x - side * between(0.3, 0.5), y - between(-0.35, 0.35)
    angle = torch.atan2(dy, dx)
    reach = between(0.14, 0.26) * (1 + 0.25 * torch.cos(3 * angle + 2 * math.pi * side))
    cloud = torch.exp(-((dx**2 + dy**2) / reach**2))
    image = image + labels[:, None, None] * between(0.2, 0.4) * cloud * lung

    image = image + body * _haze(waves.unflatten(1, (_WAVES, 3)), axis)
    return image.clamp(0, 1)


def _edge(distance: Tensor, softness: float) -> Tensor:
    """Return 1 inside (positive distance), 0 outside, smooth between."""
    return torch.sigmoid(distance / (softness / 2))


def _haze(waves: Tensor, axis: Tensor) -> Tensor:
    """Return a smooth random field about 0: cosines of random direction and phase.

    Parameters
    ----------
    waves : Tensor
        (B, K, 3) uniform: horizontal and vertical frequency, phase.
    axis : Tensor
        (S,) pixel centres in [-1, 1].
    """
    frequency = 1 + torch.arange(waves.shape[1])
    kx = (waves[..., 0] - 0.5) * frequency * math.pi
    ky = (waves[..., 1] - 0.5) * frequency * math.pi
    phase = waves[..., 2] * 2 * math.pi
    # cos(a + b) = cos a cos b - sin a sin b makes a sum over K waves two small products.
    across = kx[..., None] * axis
    along = ky[..., None] * axis + phase[..., None]
    weight = (0.03 / frequency.sqrt())[None, :, None]
    return torch.einsum("bky,bkx->byx", weight * along.cos(), across.cos()) - torch.einsum(
        "bky,bkx->byx", weight * along.sin(), across.sin()
    )
