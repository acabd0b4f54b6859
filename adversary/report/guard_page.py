"""What a hospital's guard writes on its own disk: a table, and a page made of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from adversary.common.files import atomic_write, private_folder
from adversary.report.leakage_rows import records
from adversary.report.templating import template
from adversary.storage import csv_table

FIGURES = ("psnr", "expected_psnr", "rdlv", "named")
"""Figures that can have a limit: in dB, in dB, a relative value, a share."""

TABLE: csv_table.Schema = {
    "round": "Int64",
    "time": "string",
    "images": "Int64",
    "decision": "string",
    "reason": "string",
    **dict.fromkeys(FIGURES, "float64"),
    "null_psnr": "float64",
    "certificate": "string",
    "member": "string",
    "noise": "float64",
    **{f"{name}_after": "float64" for name in FIGURES},
    "seconds": "float64",
}


def append(folder: Path, row: Mapping[str, object], limits: Mapping[str, float]) -> Path:
    """Add a row to guard.csv in a folder, which is made where it is missing, and return guard.html.

    Neither holds a picture or a name.

    Raises
    ------
    OSError
        If they cannot be written.
    """
    table = private_folder(folder) / "guard.csv"
    if not table.exists():
        csv_table.create(table, TABLE)
    csv_table.append(table, TABLE, [row])
    rows = records(csv_table.read(table, TABLE))
    held = sum(row["decision"] == "refuse" for row in rows)
    blurred = sum(row["decision"] == "blur" for row in rows)
    text = template("guard.html").render(
        rows=rows, limits=limits, held=held, blurred=blurred, script=""
    )
    page = folder / "guard.html"
    with atomic_write(page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return page
