"""Tables of the EncGradInversion paper: docs/results/paper-tables.md."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.encgradinversion.growth import growth
from benchmarks.encgradinversion.published import behind, published
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


def page(kept: Sequence[Row], old_times: Sequence[Row], rows: Sequence[Row]) -> str:
    """Return the page of the rows of ``python -m benchmarks paper`` and of those kept from before.

    Parameters
    ----------
    kept, old_times : sequence of Row
        paper_tables.jsonl and encgrad_time.jsonl: rounded figures, whose own rows were not kept.
    rows : sequence of Row
        paper.jsonl.
    """
    times = having(rows, table="time")
    return render(
        "paper_tables.md",
        three=_three(having(rows, table="III")),
        four=_by_batch([row for row in rows if row["table"] in ("IV", "VIII")]),
        counted=_counted(having(rows, batch=1)),
        below=_below(rows),
        nine=_nine(having(kept, table="IX")),
        seven=_seven(having(kept, table="VII")),
        times=_times(times),
        growth=growth([row["batch"] for row in times], [row["seconds"] for row in times]),
        largest=max(times, key=lambda row: row["batch"]),
        ours=only(old_times, who="fl-sim", threads=1),
        theirs=only(old_times, who="authors"),
    )


def _by_batch(rows: Sequence[Row]) -> str:
    """Return a table with a line a network and method, and a column a batch."""
    batches = sorted({row["batch"] for row in rows})
    body = []
    for model, method in dict.fromkeys((row["model"], row["method"]) for row in rows):
        found = [having(rows, model=model, method=method, batch=batch) for batch in batches]
        body.append([model, method, *(_beside(one[0]) if one else "–" for one in found)])
    return markdown.table(["network", "attack", *(f"B = {batch}" for batch in batches)], body)


def _beside(row: Row) -> str:
    paper = published(row)
    return f"{_pair(row)} ({_pair(paper)})" if paper else _pair(row)


def _counted(rows: Sequence[Row]) -> str:
    """Return in words over how many images each network's row of single ones is a mean."""
    counts = {row["model"]: row["batches"] for row in rows if row["table"] in ("IV", "VIII")}
    return ", ".join(f"{count} of {model}" for model, count in counts.items())


def _below(rows: Sequence[Row]) -> str:
    """Return in words which rows of ours are below the published ones."""
    told = [
        f"{row['model']} at B = {row['batch']} in {' and '.join(map(str.upper, found))}"
        for row in rows
        if row["method"].startswith("EncGradInversion") and (found := behind(row))
    ]
    return "; ".join(told) or "none"


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
    body = []
    for batch in sorted({row["batch"] for row in rows}):
        oha, gra, ours = (
            only(rows, batch=batch, method=name) for name in ("OHA", "GRA", "consistent")
        )
        theirs = [f"{_power(row['mse'])} ({_power(published(row)['mse'])})" for row in (oha, gra)]
        body.append([str(batch), *theirs, _power(ours["mse"]), _power(ours["relative_mse"])])
    return markdown.table(["B", "OHA", "GRA", "consistent", "relative to the variance of h"], body)


def _times(rows: Sequence[Row]) -> str:
    body = []
    for row in sorted(rows, key=lambda one: one["batch"]):
        paper = published(row).get("seconds")
        told = "" if paper is None else f"{paper:,g}"
        mib = f"{row['peak_mib']:,.0f}"
        body.append([str(row["batch"]), f"{row['seconds']:.2f}", told, _pair(row), mib])
    return markdown.table(["B", "s", "published, s", "SSIM / PSNR", "MiB"], body)


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
