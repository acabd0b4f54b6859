"""The chest X-ray system of Ziegler et al.: docs/results/ziegler.md from the rows of its runs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from benchmarks.tables import markdown
from benchmarks.tables.markdown import fraction, number, share
from benchmarks.tables.rows import Row, having, only
from benchmarks.tables.templating import render

BASELINE = "FedAvg"
"""The run without freezing and privacy, of whose rounds and starts there are tables."""

FREEZING = ("none", "batch-norm", "middle", "all-but-last")

ATTACKS = {"ing": "published", "batch-statistics": "batch statistics"}
"""What the page calls them."""

HEAD = ("PSNR", "nearest", "SSIM", "RDLV", "mean X-ray", "null", "re-identified", "named")


def page(rows: Sequence[Row], trained: Sequence[Row]) -> str:
    """Return the page of ziegler.jsonl, beside a federation of realistic.jsonl that learns."""
    base = only(rows, label=BASELINE)
    others = [row for row in rows if row["budget"] is not None]
    private = sorted(others, key=lambda row: -row["budget"])
    grouped = having(rows, norm="group", budget=None)
    frozen = sorted(having(rows, norm="batch"), key=lambda row: FREEZING.index(row["freeze"]))
    rounds = {one["round"] for row in frozen if row is not base for one in row["attacks"]}
    return render(
        "ziegler.md",
        base=base,
        runs=rows,
        learned=only(trained, what="training", model="densenet121", size=base["size"]),
        from_mean=_from_mean(base),
        by_round=markdown.table(("round", "AUC", "attack", *HEAD), _by_round(base)),
        by_start=markdown.table(("start", *_rounds_of(base)), _by_start(base)),
        by_freezing=markdown.table(
            ("frozen", "AUC", "round", *HEAD), _by_run(frozen, "freeze", rounds)
        ),
        by_budget=markdown.table(
            ("epsilon", "spent", "AUC", "round", *HEAD), _by_budget([*grouped, *private])
        ),
    )  # fmt: skip


def _by_round(row: Row) -> Iterator[list[str]]:
    for one in sorted(row["attacks"], key=lambda one: (one["round"], one["attack"] != "ing")):
        if one["chosen"]:
            after = number(row["auc"][one["round"] - 1], 3)
            yield [str(one["round"]), after, ATTACKS[one["attack"]], *_figures(row, one)]


def _by_start(row: Row) -> Iterator[list[str]]:
    """Yield the PSNR of each start in each round, in bold where the attacker chose it."""
    trials = having(row["attacks"], attack="ing")
    for start in dict.fromkeys(one["start"] for one in trials):
        own = sorted(having(trials, start=start), key=lambda one: one["round"])
        yield [START_NAMES[start], *(_emphasised(one) for one in own)]


START_NAMES = {
    "randn": "normal noise",
    "rand": "uniform noise",
    "zeros": "black",
    "image": "a given X-ray",
    "mean": "the mean X-ray",
}


def _emphasised(one: Row) -> str:
    text = f"{number(one['psnr'])} / {fraction(one['ssim'])} / {fraction(one['rdlv'])}"
    return f"**{text}**" if one["chosen"] else text


def _rounds_of(row: Row) -> list[str]:
    rounds = sorted({one["round"] for one in having(row["attacks"], attack="ing")})
    return [f"round {number}" for number in rounds]


def _by_run(rows: Sequence[Row], named_by: str, rounds: Collection[int]) -> Iterator[list[str]]:
    for row in rows:
        for one in (one for one in _from_mean(row) if one["round"] in rounds):
            after = number(row["auc"][one["round"] - 1], 3)
            yield [row[named_by], after, str(one["round"]), *_figures(row, one)]


def _by_budget(rows: Sequence[Row]) -> Iterator[list[str]]:
    for row in rows:
        spent = row["epsilon"]
        for cells in _by_run([row], "norm", range(row["rounds"] + 1)):
            budget = "none" if row["budget"] is None else f"{row['budget']:g}"
            yield [budget, number(spent, 2), *cells[1:]]


def _from_mean(row: Row) -> list[Row]:
    """Return what the published attack came to from the mean X-ray, which all runs have."""
    found = having(row["attacks"], attack="ing", start="mean")
    return sorted(found, key=lambda one: one["round"])


def _figures(row: Row, one: Row) -> list[str]:
    return [
        number(one["psnr"]),
        number(one["psnr_worst"]),
        fraction(one["ssim"]),
        fraction(one["rdlv"]),
        number(one["prior_psnr"]),
        number(one["null_psnr"]),
        share(one["reidentified"]),
        _named(row, one["round"]),
    ]


def _named(row: Row, round: int) -> str:
    found: list[dict[str, Any]] = [one for one in row["named"] if one["round"] == round]
    return ", ".join(f"{one['hits']} of {one['members']}" for one in found) or "–"
