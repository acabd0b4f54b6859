"""One update of a multi-label head: docs/results/multi-label.md."""

from __future__ import annotations

from typing import Any

from benchmarks.tables import markdown
from benchmarks.tables.rows import Row
from benchmarks.tables.templating import render

MODELS = {"lenet": "LeNet", "convnet": "GELU ConvNet"}


def page(found: Row) -> str:
    """Return the page of the last line of ``python -m benchmarks multi_label``."""
    body = [_line(row) for row in found["rows"]]
    head = ["network", "B", "label rows right", "label entries right", "rows right by counts alone",
            "PSNR, dB", "SSIM", "rank of the encodings"]  # fmt: skip
    return render(
        "multi_label.md",
        table=markdown.table(head, body),
        batches=found["rows"][0]["batches"],
        minutes=found["seconds"] / 60,
    )


def _line(row: Row) -> list[str]:
    shares: list[Any] = [row[name] for name in ("rows", "entries", "rows_by_counts")]
    return [
        MODELS[row["model"]],
        str(row["batch"]),
        *(_all(share) for share in shares),
        f"{row['psnr']:.1f}",
        markdown.fraction(row["ssim"], 3),
        f"{row['rank']:.1f}",
    ]


def _all(share: float) -> str:
    return "all" if share == 1 else markdown.fraction(share, 3)
