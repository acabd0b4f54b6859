"""Attack beside bound: docs/results/attack-meets-bound.md."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.attack_meets_bound import SETTINGS, summary
from benchmarks.tables import markdown
from benchmarks.tables.rows import Row
from benchmarks.tables.templating import render

HEAD = ("setting, network", "updates", "PSNR, dB", "bound, dB", "aim, dB", "CPU seconds", "aim, s",
        "memory, GB", "proved")  # fmt: skip


def page(lines: Sequence[Row]) -> str:
    """Return the page of what attack_meets_bound.jsonl holds."""
    return render("attack_meets_bound.md", table=_table(summary(lines)))


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    return markdown.table(HEAD, map(_cells, rows))


def _cells(row: Mapping[str, Any]) -> list[str]:
    setting, several = SETTINGS[row["setting"]], row["updates"] > 1
    return [
        f"{row['setting']}, {row['network']}",
        str(row["updates"]),
        _spread(row["psnr"], several),
        _spread(row["bound"], several),
        f"{setting.aim:g}" if setting.aim else "bound − 3",
        _spread(row["cpu_seconds"], several),
        "" if math.isinf(setting.seconds) else f"{setting.seconds:g}",
        _spread(row["memory_gb"], several),
        f"{row['proved']} of {row['updates']}" if setting.attack == "standard" else "",
    ]


def _spread(figure: Mapping[str, float] | None, several: bool) -> str:
    if figure is None:
        return "–"
    if not several:
        return markdown.number(figure["mean"])
    return f"{markdown.number(figure['mean'])} ± {markdown.number(figure['std'])}"
