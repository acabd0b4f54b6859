"""A setting's span from attack to upper limit, as a bar of a table."""

from __future__ import annotations

import math
from dataclasses import dataclass

from adversary.report.charts import along_axis

ENDS = (0.0, 100.0)
"""PSNR in dB at the ends of the axis; beyond, a bar stops there."""

TICKS = (10, 20, 30, 40)
"""PSNRs in dB that the axis names; above the last, pictures are copies and the axis is broken."""


@dataclass(frozen=True)
class SpanBar:
    """Where a bar begins and how long it is, in percent of the axis; without a limit it is open."""

    start: float
    length: float
    open_ended: bool


def span_bar(reached: float | None, limit: float | None) -> SpanBar | None:
    """Return the bar from what an attack reached to an upper limit, both PSNRs in dB."""
    if reached is None or math.isnan(reached):
        return None
    low = place(reached)
    high = ENDS[1] if limit is None else place(max(limit, reached))
    return SpanBar(start=low, length=high - low, open_ended=limit is None)


def place(psnr: float) -> float:
    """Return where a PSNR in dB lies along the axis, in percent."""
    first, last = (along_axis(end) for end in ENDS)
    return 100 * (along_axis(min(max(psnr, ENDS[0]), ENDS[1])) - first) / (last - first)
