"""A ruler for the eye: one public X-ray at several PSNRs, and beside the mean of others."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from adversary.report import pictures
from adversary.scoring import metrics

DECIBELS = (10, 15, 20, 25, 30, 40)
"""PSNRs shown."""

_LARGEST = 4.0  # standard deviation of noise beyond which clipping leaves no likeness to find


@dataclass(frozen=True)
class Ruler:
    """The X-ray itself, the mean of others and degraded copies, as data URIs by PSNR in dB."""

    attribution: str
    truth: str
    mean: str
    mean_psnr: float
    marks: dict[int, str]


@lru_cache
def ruler() -> Ruler:
    """Return the ruler; the noise of its copies is the same every time."""
    content = json.loads(Path(__file__).with_name("ruler.json").read_text(encoding="utf-8"))
    truth, mean = _decoded(content["xray"]), _decoded(content["mean"])
    return Ruler(
        attribution=content["attribution"],
        truth=pictures.thumbnail(_pixels(truth)),
        mean=pictures.thumbnail(_pixels(mean)),
        mean_psnr=psnr(mean, truth),
        marks={one: pictures.thumbnail(_pixels(at(truth, one))) for one in DECIBELS},
    )


def at(truth: NDArray[np.float64], decibels: float) -> NDArray[np.float64]:
    """Return an image in [0, 1] with as much white noise as gives it a PSNR, clipping included."""
    noise = np.random.default_rng(0).standard_normal(truth.shape)
    low, high = 0.0, _LARGEST
    for _ in range(60):  # the error grows with the noise, so bisection finds its level
        middle = (low + high) / 2
        low, high = (
            (middle, high)
            if psnr(np.clip(truth + middle * noise, 0, 1), truth) > decibels
            else (low, middle)
        )
    return np.clip(truth + high * noise, 0, 1)


def psnr(image: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """Return the PSNR in dB of an image (H, W) in [0, 1]."""
    return float(metrics.psnr(*(torch.from_numpy(one)[None, None] for one in (image, truth))))


def _decoded(text: str) -> NDArray[np.float64]:
    with Image.open(io.BytesIO(base64.b64decode(text)), formats=("PNG",)) as image:
        return np.asarray(image, dtype=np.float64) / 255


def _pixels(image: NDArray[np.float64]) -> pictures.Pixels:
    return np.round(image * 255).astype(np.uint8)
