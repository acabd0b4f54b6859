"""Pictures of original and recovered batches, and of the time figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from adversary.common.files import atomic_write
from benchmarks.encgradinversion.cells import Cell
from benchmarks.encgradinversion.published import published

WIDE = 8
"""Images a line."""


def file_name(cell: Cell) -> str:
    """Return the name of a row's picture."""
    parts = (cell.table, cell.dataset, cell.data, cell.model, cell.size, cell.batch, cell.method)
    words = [str(part).replace(" ", "_").replace("/", "_") for part in (*parts, cell.effort)]
    return "-".join(words) + ".png"


def draw_batch(truths: Tensor, found: Tensor, title: str, path: Path) -> None:
    """Draw the first images of a batch, originals above recovered ones.

    Parameters
    ----------
    truths, found : Tensor
        (B, C, H, W) in [0, 1].
    title : str
        Above the recovered ones.
    path : Path
        The file.
    """
    shown = min(WIDE, len(truths))
    figure = Figure(figsize=(max(3.0, shown), 2.5))
    axes = figure.subplots(2, shown, squeeze=False)
    for line, batch, name in zip(axes, (truths, found), ("original", title), strict=True):
        line[0].set_title(name, fontsize=7, loc="left")
        for axis, image in zip(line, batch, strict=False):
            axis.imshow(_pixels(image), cmap="gray", vmin=0, vmax=1)
        for axis in line:
            axis.axis("off")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150, bbox_inches="tight", format="png")


def draw_times(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw time against batch, memory beside it, with the published times."""
    figure = Figure(figsize=(7, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    for method in dict.fromkeys(row["method"] for row in rows):
        own = sorted((row for row in rows if row["method"] == method), key=lambda r: r["batch"])
        batches = [row["batch"] for row in own]
        left.loglog(batches, [row["seconds"] for row in own], marker="o", label=method)
        right.semilogx(batches, [row["ssim"] for row in own], marker="o", label=method)
    paper = [(row["batch"], published(row).get("seconds")) for row in rows]
    if known := sorted((batch, seconds) for batch, seconds in paper if seconds is not None):
        left.loglog(*np.array(known).T, marker="*", linestyle="--", label="published")
    left.set(xlabel="batch", ylabel="s")
    right.set(xlabel="batch", ylabel="SSIM", ylim=(0, 1))
    left.legend(frameon=False, fontsize=7)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")


def _pixels(image: Tensor) -> np.ndarray:
    pixels: np.ndarray = image.permute(1, 2, 0).squeeze(-1).numpy()
    return pixels
