"""Tables of the EncGradInversion paper: docs/results/paper-tables.md."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.tables import markdown
from benchmarks.tables.rows import Row, having, only
from benchmarks.tables.templating import render

ATTACKS = {
    "EncGradInversion": "encgrad",
    "STG": "stg",
    "IGI": "igi",
    "DLG": "dlg",
    "ING": "ing",
}
"""The paper's names, and those of the settings."""


def page(rows: Sequence[Row], times: Sequence[Row]) -> str:
    """Return the page of paper_tables.jsonl and encgrad_time.jsonl."""
    return render(
        "paper_tables.md",
        nine=_nine(having(rows, table="IX")),
        three=_three(having(rows, table="III")),
        seven=_seven(having(rows, table="VII")),
        ours=only(times, who="fl-sim", threads=1),
        threads=only(times, who="fl-sim", threads=2),
        theirs=only(times, who="authors"),
    )


def _nine(rows: Sequence[Row]) -> str:
    batches = sorted({row["batch"] for row in rows})
    body = []
    for method, name in ATTACKS.items():
        cells = []
        for batch in batches:
            row = only(rows, method=method, batch=batch)
            cells.append(f"{_pair(row)} ({_pair(row['published'])})")
        body.append([f"`{name}`", *cells])
    return markdown.table(["attack", *(f"B = {batch}" for batch in batches)], body)


def _pair(row: Row) -> str:
    return f"{markdown.fraction(row['ssim'], 3)} / {row['psnr']:.1f}"


def _three(rows: Sequence[Row]) -> str:
    methods = ("OHA", "GRA", "consistent")
    body = []
    for batch in sorted({row["batch"] for row in rows}):
        found = [only(rows, batch=batch, method=method) for method in methods]
        errors = [_power(row["mse"]) for row in found]
        body.append([str(batch), *errors, _power(found[-1]["relative_mse"])])
    return markdown.table(["B", *methods, "relative to the variance of h"], body)


def _power(value: float) -> str:
    """Return two digits and a power of ten without a leading zero."""
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits}e{int(power)}"


def _seven(rows: Sequence[Row]) -> str:
    body = [
        [str(batch), *(f"{row['ssim']:g}" for row in having(rows, batch=batch))]
        for batch in sorted({row["batch"] for row in rows})
    ]
    return markdown.table(["B", "after phase 2", "after phase 3"], body)
