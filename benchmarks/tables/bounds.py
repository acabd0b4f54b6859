"""The bound and an attack over the noise on an update: docs/results/bounds.md."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.tables import markdown
from benchmarks.tables.rows import Row
from benchmarks.tables.templating import render

MODELS = {"lenet": "LeNet", "gelu": "GELU ConvNet"}
_FIGURES = ("prior_psnr", "bound_psnr", "van_trees_psnr", "attack_psnr", "sampling_error")


def page(found: Row) -> str:
    """Return the page of the last line of ``python -m benchmarks bound_versus_attack``."""
    rows = found["rows"]
    body = [
        [MODELS[row["model"]], f"{row['noise']:g}", *(f"{row[name]:.1f}" for name in _FIGURES),
         str(row["images"])]
        for row in rows
    ]  # fmt: skip
    head = ["network", "noise", "mean public X-ray", "bound", "van Trees' bound", "`gauss-newton`",
            "standard error", "X-rays"]  # fmt: skip
    return render(
        "bounds.md",
        table=markdown.table(head, body),
        most=max(row["images"] for row in rows),
        gap=_gap(rows),
    )


def _gap(rows: Sequence[Row]) -> float:
    """Return by how many dB attack and bound differ at most, over levels with the most images.

    Levels at which an update tells no more than the prior, within sampling error, do not count.
    """
    most = max(row["images"] for row in rows)
    told = [
        row
        for row in rows
        if row["images"] == most and row["bound_psnr"] > row["prior_psnr"] + row["sampling_error"]
    ]
    return max(abs(row["attack_psnr"] - row["bound_psnr"]) for row in told)
