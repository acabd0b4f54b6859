"""Augmentation by a policy of transforms, fresh in every round."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from adversary.observation.channel import Channel
from adversary.observation.observation import Observation
from fl_sim.defences.base import Defence, DefenceError

SEPARATOR = "+"
MOST_SHIFT = 0.2
MOST_ROTATION = 20.0
MOST_ZOOM = 0.2
MOST_STRETCH = 1.6
MOST_CONTRAST = 0.5
MOST_GAMMA = 2.0


@functools.cache
def _transforms() -> Any:
    """Return torchvision's functions, which are slow to import and needed by this defence alone."""
    from torchvision.transforms.v2 import functional

    return functional


def _moved(
    image: Tensor, *, angle: float = 0.0, x: float = 0.0, y: float = 0.0, scale: float = 1.0
) -> Tensor:
    size = image.shape[-1]
    return _transforms().affine(
        image,
        angle=angle,
        translate=[x * size, y * size],
        scale=scale,
        shear=[0.0, 0.0],
        interpolation="bilinear",
    )


def _shift(image: Tensor, draw: Tensor, strength: float) -> Tensor:
    most = MOST_SHIFT * strength
    return _moved(image, x=float(draw[0]) * most, y=float(draw[1]) * most)


def _rotation(image: Tensor, draw: Tensor, strength: float) -> Tensor:
    return _moved(image, angle=float(draw[0]) * MOST_ROTATION * strength)


def _zoom(image: Tensor, draw: Tensor, strength: float) -> Tensor:
    return _moved(image, scale=1 + float(draw[0]) * MOST_ZOOM * strength)


def _stretch(image: Tensor, draw: Tensor, strength: float) -> Tensor:
    height, width = (MOST_STRETCH ** (draw * strength)).tolist()
    inverse = torch.tensor([[[1 / width, 0.0, 0.0], [0.0, 1 / height, 0.0]]])
    grid = F.affine_grid(inverse.to(image), [1, *image.shape], align_corners=False)
    return F.grid_sample(image[None], grid, align_corners=False)[0]


def _contrast(image: Tensor, draw: Tensor, strength: float) -> Tensor:
    return _transforms().adjust_contrast(image, 1 + float(draw[0]) * MOST_CONTRAST * strength)


def _brightness(image: Tensor, draw: Tensor, strength: float) -> Tensor:
    return _transforms().adjust_brightness(image, 1 + float(draw[0]) * MOST_CONTRAST * strength)


def _gamma(image: Tensor, draw: Tensor, strength: float) -> Tensor:
    return _transforms().adjust_gamma(image, MOST_GAMMA ** (float(draw[0]) * strength))


def _flip(image: Tensor, draw: Tensor, strength: float) -> Tensor:
    return _transforms().horizontal_flip(image) if draw[0] < 0 else image


TRANSFORMS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "shift": _shift,
    "rotation": _rotation,
    "zoom": _zoom,
    "stretch": _stretch,
    "contrast": _contrast,
    "brightness": _brightness,
    "gamma": _gamma,
    "flip": _flip,
}
"""From an image (C, H, W), two draws from [-1, 1] and a strength to an image in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Augmentation(Defence):
    """Train on transformed images: a policy of transforms, drawn anew for every image and round.

    The idea of Gao et al., "Privacy-preserving collaborative learning with automatic
    transformation search" (CVPR 2021): policies of a few geometric and photometric transforms
    that make gradients harder to match. Their policies were searched for natural images; here a
    policy is named, not searched.

    Parameters
    ----------
    policy : str
        Transforms in their order, joined by "+": shift, rotation, zoom, stretch, contrast,
        brightness, gamma, flip.
    strength : float
        Of the largest transform, >= 0 and <= 2: 1 shifts, enlarges or reduces by up to a fifth,
        rotates by up to 20 degrees, stretches height and width by factors of 1/1.6 to 1.6 each
        (radiographs of all formats are made squares), changes contrast or brightness by up to a
        half, and raises all values to a power of 1/2 to 2 (gamma: of the exposure, black levels
        above all). Flips know none.
    """

    policy: str = "shift+rotation+contrast"
    strength: float = 1.0

    protects = (
        "Shows the server a transformed patient instead of the image on file, and makes some "
        "attacks converge worse; a transformed patient is still a patient, so reconstructions "
        "are scored against the transformed images. Earns no epsilon."
    )

    def __post_init__(self) -> None:
        for name in self._names:
            if name not in TRANSFORMS:
                raise DefenceError(
                    f"policy = {self.policy!r}: must be one or more of {', '.join(TRANSFORMS)}, "
                    f"joined by {SEPARATOR}"
                )
        if not (math.isfinite(self.strength) and 0 <= self.strength <= 2):
            raise DefenceError(f"strength = {self.strength}: must be a number >= 0 and <= 2")

    @property
    def _names(self) -> list[str]:
        return [name.strip() for name in self.policy.split(SEPARATOR)]

    def inputs(self, images: Tensor, *, generator: torch.Generator) -> Tensor:
        """Return the transformed images (N, C, H, W) in [0, 1]."""
        draws = 2 * torch.rand((len(images), len(self._names), 2), generator=generator) - 1
        return torch.stack([self._transformed(x, d) for x, d in zip(images, draws, strict=True)])

    def channel(self, observation: Observation) -> Channel:
        """Tell the policy; what was drawn from it is the client's own."""
        return Channel(transform=self.inputs)

    def _transformed(self, image: Tensor, draws: Tensor) -> Tensor:
        for name, draw in zip(self._names, draws, strict=True):
            image = TRANSFORMS[name](image, draw, self.strength)
        return image.clamp(0, 1)
