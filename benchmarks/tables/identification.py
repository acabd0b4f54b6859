"""Who was in an update: docs/results/identification.md."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import groupby

from adversary.identification.figures import interval
from benchmarks.tables import markdown
from benchmarks.tables.rows import Row
from benchmarks.tables.templating import render

HEAD = [
    "hospital", "X-rays", "steps", "rounds", "seeds",
    "AUC", "named, 1 in 100", "of all seeds", "CPU s",
]  # fmt: skip


def page(rows: Sequence[Row]) -> str:
    """Return the page of identification.jsonl."""
    trained = [row for row in rows if row["defence"] == "none"]
    null = [row for row in trained if row["case"].endswith(", null")]
    private = [row for row in rows if row["defence"] != "none"]
    return render(
        "identification.md",
        table=_table([row for row in trained if row not in null]),
        null=_table(null) if null else "",
        private=_private(private) if private else "",
    )


def _table(rows: Sequence[Row]) -> str:
    def key(row: Row) -> tuple[str, str, int, int, bool]:
        return row["case"], row["data"], row["images"], row["round"], row["joined"]

    body = []
    for (case, data, images, last, joined), some in groupby(sorted(rows, key=key), key):
        own = list(some)
        rounds = f"1 to {last} joined" if joined else str(last)
        hits = sum(round(row["tpr_1"] * images) for row in own)
        low, high = interval(hits, images * len(own))
        body.append([
            f"{case}; {own[0]['network']}, {data}", str(images), str(own[0]["steps"]), rounds,
            str(len(own)),
            _spread([row["auc"] for row in own]),
            markdown.fraction(statistics.fmean(row["tpr_1"] for row in own)),
            f"{markdown.fraction(low)} to {markdown.fraction(high)}",
            markdown.seconds(statistics.fmean(row["seconds"] for row in own)),
        ])  # fmt: skip
    return markdown.table(HEAD, body)


def _private(rows: Sequence[Row]) -> str:
    def key(row: Row) -> tuple[str, str]:
        return row["defence"], row["case"]

    body = []
    for (defence, case), some in groupby(sorted(rows, key=key), key):
        own = list(some)
        body.append([
            defence, case.rpartition(" ")[2],
            markdown.fraction(statistics.fmean(row["tpr_1"] for row in own), 3),
            markdown.fraction(own[0]["ceiling"], 3),
            _spread([row["epsilon_lower"] for row in own], 2),
        ])  # fmt: skip
    head = ["defence", "false alarms", "named", "the most there is", "epsilon proved"]
    return markdown.table(head, body)


def _spread(values: Sequence[float], digits: int = 3) -> str:
    """Return the mean of seeds, and their least and largest."""
    mean, least, most = (
        markdown.fraction(value, digits)
        for value in (statistics.fmean(values), min(values), max(values))
    )
    return mean if len(values) == 1 else f"{mean} ({least} to {most})"
