"""Hospitals as they train: docs/results/hospitals.md from the rows of the scenarios."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from adversary.scoring.verdict import NAMED_BY_CHANCE, Severity
from benchmarks.tables import markdown
from benchmarks.tables.markdown import number, share
from benchmarks.tables.rows import Row
from benchmarks.tables.templating import render

TITLES = {
    "high-risk-site": "Nine sites, one with a single X-ray",
    "hospital": "Four hospitals with a DenseNet121",
    "dp-hospital": "Four hospitals with DP-SGD",
    "synchronised": "Three hospitals that send after three steps, in a secure sum",
    "local-dp-mod": "Four hospitals with Flower's LocalDpMod",
}
"""Of the scenarios, in the order of the page."""

LEVELS = {level.slug: level for level in Severity}


def page(rows: Sequence[Row]) -> str:
    """Return the page of hospitals.jsonl."""
    found = sorted(rows, key=lambda row: list(TITLES).index(row["scenario"]))
    return render(
        "hospitals.md", overview=markdown.table(HEAD, map(_summary, found)), scenarios=[
            {
                "title": TITLES[row["scenario"]],
                "row": row,
                "pictures": markdown.table(PICTURES, _pictures(row)),
                "names": markdown.table(NAMES, _names(row)),
            }
            for row in found
        ],
    )  # fmt: skip


HEAD = ("config", "verdict", "nearest picture", "mean X-ray", "limit", "named at most",
        "model's AUC", "rounds", "minutes")  # fmt: skip


def _summary(row: Row) -> list[str]:
    updates, names = row["updates"], _beyond_chance(row)
    worst = max(updates, key=lambda one: _known(one["psnr_worst"]), default={})
    best = max(names, key=lambda one: one["hits"] / one["members"], default=None)
    return [
        f"[`{row['scenario']}`](#{_anchor(TITLES[row['scenario']])})",
        LEVELS[row["verdict"]].label,
        number(worst.get("psnr_worst")),
        number(worst.get("prior_psnr")),
        number(worst.get("bound_psnr")),
        "–" if best is None else f"{best['hits']} of {best['members']}, {best['client']}",
        number(row["model_auc"], 3),
        str(row["rounds"]),
        number(row["seconds"] / 60),
    ]


PICTURES = ("hospital", "X-rays", "round", "verdict", "nearest", "mean", "mean X-ray", "null",
            "limit", "proved")  # fmt: skip


def _pictures(row: Row) -> Iterator[list[str]]:
    for one in sorted(row["updates"], key=lambda one: (one["client"], one["round"])):
        held = row["images"].get(one["client"])
        yield [
            one["client"],
            "–" if held is None else str(held),
            str(one["round"]),
            LEVELS[one["verdict"]].label if one["attacked"] else "Attack failed: open",
            *(number(one[name]) for name in ("psnr_worst", "psnr", "prior_psnr", "null_psnr")),
            number(one["bound_psnr"]),
            share(one["proved"]),
        ]


NAMES = ("hospital", "patients", "candidates", "round", "named at 1 %", "95 % interval", "AUC")


def _names(row: Row) -> Iterator[list[str]]:
    for one in row["named"]:
        by_chance = "" if one["chance"] < NAMED_BY_CHANCE else ", no more than by chance"
        yield [
            one["client"],
            str(one["members"]),
            str(one["candidates"]),
            "all" if one["round"] is None else str(one["round"]),
            f"{one['hits']}{by_chance}",
            f"{share(one['low'])} to {share(one['high'])}",
            number(one["auc"], 3),
        ]


def _beyond_chance(row: Row) -> list[dict[str, Any]]:
    return [one for one in row["named"] if one["chance"] < NAMED_BY_CHANCE]


def _known(value: float | None) -> float:
    return float("-inf") if value is None else value


def _anchor(title: str) -> str:
    """Return the anchor that Markdown gives a heading."""
    kept = "".join(sign for sign in title.lower() if sign.isalnum() or sign in " -")
    return "-".join(kept.split())
