"""Speed and scale: docs/results/speed.md."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.tables import markdown
from benchmarks.tables.rows import Row, having, only
from benchmarks.tables.templating import render

NAMES = {"lenet": "LeNet", "convnet": "ConvNet", "resnet18": "ResNet18"}
WHO = ("fl-sim", "breaching")


def page(
    beside: Sequence[Row],
    thousand: Sequence[Row],
    target: Sequence[Row],
    breaching: Sequence[Row],
    evaluations: Sequence[Row],
) -> str:
    """Return the page of what the benchmarks of speed and scale gave, a file each."""
    return render(
        "speed.md",
        breaching=_breaching(having(breaching, run="one thread")),
        overhead=only(beside, what="overhead"),
        attacked=having(beside, what="attacked"),
        thousand=only(thousand, clients=1000),
        target=_target(target),
        seconds_to=target[0]["target"],
        suite=_suite(having(breaching, run="suite")),
        execution=_execution(evaluations),
        precision=_precision(having(evaluations, run="precision")),
    )


def _breaching(rows: Sequence[Row]) -> str:
    body = []
    for model in NAMES:
        for batch in sorted({row["batch"] for row in having(rows, model=model)}):
            both = [only(rows, model=model, batch=batch, who=who) for who in WHO]
            figures = (
                " / ".join(f"{row[name]:g}" for row in both)
                for name in ("psnr", "evaluations_per_second")
            )
            body.append([f"{NAMES[model]}, {batch}", *figures])
    return markdown.table(["model, batch", "PSNR, dB", "evaluations a second"], body)


def _target(rows: Sequence[Row]) -> str:
    ways = {
        "`dlg` from noise": {"attack": "dlg", "who": "fl-sim"},
        "`dlg` from the mean public X-ray": {"attack": "dlg@mean", "who": "fl-sim"},
        "breaching": {"who": "breaching"},
    }
    body = []
    for model in ("lenet", "convnet"):
        times = (only(rows, model=model, **way)["seconds"] for way in ways.values())
        body.append([NAMES[model], *(f"{one:.2f}" for one in times)])
    return markdown.table(["network", *ways], body)


def _suite(rows: Sequence[Row]) -> str:
    body = [
        [NAMES[model],
         *(f"{only(rows, model=model, who=who)['evaluations_per_second']:g}" for who in WHO)]
        for model in ("lenet", "convnet")
    ]  # fmt: skip
    return markdown.table(["network", *WHO], body)


def _execution(rows: Sequence[Row]) -> str:
    lines = [("lenet", "last", ""), ("lenet", "earlier", ", an earlier run"),
             ("convnet", "last", ""), ("resnet18", "last", ", one thread")]  # fmt: skip
    body = []
    for model, run, more in lines:
        cells = [
            only(rows, model=model, run=run, execution=way)["evaluations_per_second"]
            for way in ("compiled", "eager")
        ]
        body.append([NAMES[model] + more, *(f"{one:g}" for one in cells)])
    return markdown.table(["network", "compiled", "plain"], body)


def _precision(rows: Sequence[Row]) -> str:
    body = [
        [NAMES[model],
         *(f"{only(rows, model=model, precision=how)['psnr']:.1f}" for how in ("bfloat16", "full"))]
        for model in ("lenet", "convnet")
    ]  # fmt: skip
    return markdown.table(["network", "in bfloat16", "in full"], body)
