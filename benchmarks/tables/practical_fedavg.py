"""Local epochs, batches and knowledge: docs/results/practical-fedavg.md."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.practical_fedavg import KNOWLEDGE
from benchmarks.tables import markdown
from benchmarks.tables.rows import Row, having
from benchmarks.tables.templating import render

HEAD = ("epochs, batch", "steps", "the server knows", "PSNR", "mean X-ray", "null", "RDLV", "null",
        "re-identified", "AUC", "named, 1 in 100", "CPU s")  # fmt: skip

TITLES = {"recipe": "all of the recipe", "wrong": "a wrong one", "nothing": "nothing"}

REPORTED = {(1, 1): 12.02, (1, 8): 14.11, (1, 16): 14.50, (2, 1): 12.13, (2, 8): 12.99,
            (2, 16): 15.17, (5, 1): 11.51, (5, 8): 14.58, (5, 16): 14.85}  # fmt: skip
"""PSNR in dB by epochs and batch, of Guo et al., TPAMI 2026 (arXiv 2503.11514)."""


def page(lines: Sequence[Row]) -> str:
    """Return the page of practical_fedavg.jsonl."""
    settings = sorted({(line["epochs"], line["batch"]) for line in lines})
    body, beside = [], []
    for epochs, batch in settings:
        own = having(lines, epochs=epochs, batch=batch)
        groups = {knows: having(own, knows=knows) for knows in KNOWLEDGE}
        body += [_cells(epochs, batch, TITLES[k], group) for k, group in groups.items() if group]
        if groups["recipe"]:
            beside.append(
                [
                    f"{epochs}, {batch}",
                    *(_mean(groups["recipe"], name) for name in ("psnr", "prior_psnr")),
                    markdown.number(REPORTED.get((epochs, batch)), 2),
                ]
            )
    first = lines[0]
    return render(
        "practical_fedavg.md",
        table=markdown.table(HEAD, body),
        beside=markdown.table(
            ("epochs, batch", "here, dB", "mean X-ray, dB", "Guo et al., dB"), beside
        ),
        row=first,
        seeds=len({line["seed"] for line in lines}),
        cut=sum(line.get("stopped") == "seconds" for line in lines),
        updates=len(lines),
    )


def _cells(epochs: int, batch: int, knows: str, group: Sequence[Row]) -> list[str]:
    return [
        f"{epochs}, {batch}",
        str(group[0]["steps"]),
        knows,
        _mean(group, "psnr"),
        _mean(group, "prior_psnr"),
        _mean(group, "null_psnr"),
        _mean(group, "rdlv", 2),
        _mean(group, "null_rdlv", 2),
        _share(group, "reidentified"),
        _mean(group, "auc", 3),
        _share(group, "tpr_1"),
        _mean(group, "seconds", 0),
    ]


def _mean(group: Sequence[Row], name: str, digits: int = 1) -> str:
    return markdown.number(_average(group, name), digits)


def _share(group: Sequence[Row], name: str) -> str:
    return markdown.share(_average(group, name))


def _average(group: Sequence[Row], name: str) -> float | None:
    known = [line[name] for line in group if line.get(name) is not None]
    return statistics.fmean(known) if known else None
