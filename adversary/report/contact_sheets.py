"""Sheets of captioned pictures side by side; a drawing library would take seconds for a batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]

Panel = tuple[str, Pixels | None]
"""A caption, of one or more lines, and what is below it, if anything."""

GAP = 10
"""Pixels between panels."""

LINE = 15
"""Height of a line of text in pixels."""

_BAR = 65  # pixels that a legend takes


def sheet(
    rows: Sequence[Sequence[Panel]],
    side: int,
    *,
    legend: tuple[Pixels, Sequence[str]] | None = None,
) -> Image.Image:
    """Return panels in rows on white.

    Parameters
    ----------
    rows : sequence of sequence of (str, (H, W) or (H, W, 3) uint8 or None)
        Equally many panels in each.
    side : int
        Pictures are enlarged, pixel by pixel, or reduced to squares of this many pixels.
    legend : ((H, W, 3) uint8, sequence of str), optional
        A ramp to the right of the first row, and what its top, its middle, its foot and so on,
        evenly spaced from the top, mean.
    """
    columns = max((len(row) for row in rows), default=1)
    lines = max((caption.count("\n") + 1 for row in rows for caption, _ in row), default=1)
    above = (lines + 1) * LINE
    width = GAP + columns * (side + GAP) + (_BAR if legend else 0)
    canvas = Image.new("RGB", (width, max(len(rows), 1) * (above + side + GAP)), "white")
    draw = ImageDraw.Draw(canvas)
    for row, panels in enumerate(rows):
        top = row * (above + side + GAP) + above
        for column, (caption, pixels) in enumerate(panels):
            left = GAP + column * (side + GAP)
            middle = left + side // 2, top - LINE // 3
            draw.multiline_text(middle, caption, "black", _font(), anchor="md", align="center")
            if pixels is not None:
                canvas.paste(_square(pixels, side), (left, top))
    if legend is not None:
        ramp, words = legend
        left = width - _BAR
        canvas.paste(Image.fromarray(ramp).resize((LINE, side)), (left, above))
        for number, word in enumerate(words):
            height = above + side * number // max(len(words) - 1, 1)
            draw.text((left + LINE + 4, height), word, "black", _font(), anchor="lm")
    return canvas


def _square(pixels: Pixels, side: int) -> Image.Image:
    image = Image.fromarray(pixels).convert("RGB")
    larger = side >= max(image.size)
    method = Image.Resampling.NEAREST if larger else Image.Resampling.BOX
    return image.resize((side, side), method)


@cache
def _font() -> ImageFont.FreeTypeFont:
    # Matplotlib brings a font with the signs that captions need; systems may have none.
    path = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(path, 11)
