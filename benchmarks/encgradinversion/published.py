"""What the paper reports, by the row that it stands in."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("published.csv")
KEYS = ("table", "dataset", "model", "batch", "method")
MEASURES = ("mse", "ssim", "psnr", "fft2d", "lpips", "seconds")
HIGHER_IS_BETTER = {"ssim", "psnr", "fft2d"}


def published(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the measures that the paper has for a row's table, set, model, batch and method.

    The paper's set counts, whatever images stand in for it.
    """
    return _figures().get(tuple(str(row[key]) for key in KEYS), {})


def behind(row: Mapping[str, Any], measures: tuple[str, ...] = ("ssim", "psnr")) -> list[str]:
    """Return in which of these measures a row is worse than the paper's."""
    found = []
    for measure, value in published(row).items():
        if measure in measures and row.get(measure) is not None:
            gain = row[measure] - value
            if (gain if measure in HIGHER_IS_BETTER else -gain) < 0:
                found.append(measure)
    return found


@cache
def _figures() -> dict[tuple[str, ...], dict[str, float]]:
    with FILE.open(encoding="utf-8", newline="") as file:
        return {
            tuple(line[key] for key in KEYS): {m: float(line[m]) for m in MEASURES if line[m]}
            for line in csv.DictReader(file)
        }
