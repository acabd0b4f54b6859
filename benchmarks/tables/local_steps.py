"""Weight deltas of several local steps: docs/results/local-steps.md."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.tables import markdown
from benchmarks.tables.rows import Row, having, only
from benchmarks.tables.templating import render

READINGS = {
    "one-gradient": "one gradient",
    "surrogate": "surrogate (SME)",
    "unrolled": "unrolled",
}
MODELS = {"lenet": "LeNet", "gelu": "GELU ConvNet"}


def page(rows: Sequence[Row]) -> str:
    """Return the page of local_steps.jsonl."""
    attacks = having(rows, what="attack")
    body = []
    for name in ("dlg", "ing"):
        for model, title in MODELS.items():
            own = having(attacks, attack=name, model=model)
            cells = [f"{only(own, reading=reading)['psnr']:.1f}" for reading in READINGS]
            body.append([f"`{name}`, {own[0]['iterations']} iterations, {title}", *cells])
    times = [only(rows, what="time", reading=reading)["times"] for reading in READINGS]
    body.append(["time", *(f"{one:g}" for one in times)])
    table = markdown.table(["attack, model", *READINGS.values()], body)
    return render("local_steps.md", table=table, row=attacks[0])
