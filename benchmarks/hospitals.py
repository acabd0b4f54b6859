"""Hospitals as they train: each scenario's config run as it ships, and what its report says.

    python -m benchmarks hospitals --runs results/hospitals --out benchmarks/results/hospitals.jsonl
    python -m benchmarks hospitals --only high-risk-site --set rounds=1

A run that is complete in its folder is read and not repeated, one that was stopped is resumed. A
line a scenario: {scenario, seconds, rounds, images, revision, model_auc, verdict, conclusion,
guarantee, updates: [{client, round, images, psnr, psnr_worst, prior_psnr, null_psnr, bound_psnr,
verdict, proved, attacked}], named: [{client, round, members, candidates, hits, low, high, auc,
chance}]}. ``seconds`` is the run's, wall time; ``images`` maps hospitals to their X-rays.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console

from adversary.report.first_page.answers import answers
from adversary.report.first_page.situation import Evidence, Situation, situation_of
from adversary.report.identified import Named, lines, naming, valid_accounts
from adversary.report.leakage_rows import Row, mean, with_levels
from adversary.report.run_info import mapping
from adversary.report.summary import of_folder
from adversary.scoring.verdict import worst_of
from adversary.storage.names import unmasked
from adversary.storage.run_folder import RunFolder
from benchmarks import common
from fl_sim.engines.in_process import run_in_process
from fl_sim.settings.layers import overlay
from fl_sim.settings.parse import flatten_toml, parse

ROOT = Path(__file__).resolve().parents[1]
SCENARIOS = ("high-risk-site", "hospital", "dp-hospital", "synchronised", "local-dp-mod")
"""Configs, as docs/howto/scenarios.md has them."""

CONCLUSION = ("visible", "meaning", "next")
"""The answers of the first page of which the conclusion is made."""


def completed(scenario: str, place: Path, changes: Mapping[str, Any]) -> RunFolder:
    """Run a scenario's config unless its folder holds a complete run; return the folder."""
    known = (place / "run.json").exists()
    if not known or RunFolder.open(place).info().get("status") != "completed":
        with (ROOT / "configs" / f"{scenario}.toml").open("rb") as file:
            config = dict(flatten_toml(tomllib.load(file)))
        where = {"out": str(place), "resume": known, "device": "cpu"}
        run_in_process(parse(overlay(config, changes, where)))
    return RunFolder.open(place)


def row(scenario: str, folder: RunFolder) -> dict[str, Any]:
    """Return what one run's report says."""
    info, rounds = folder.info(), folder.rounds()
    aucs = rounds["auc"].dropna()
    of = _situation(folder)
    said = {answer.slug: " ".join(answer.sentences) for answer in answers(of)}
    return {
        "scenario": scenario,
        "seconds": info.get("seconds"),
        "rounds": int(rounds["round"].max()),
        "images": _images(folder),
        "revision": mapping(info.get("versions")).get("revision"),
        "model_auc": float(aucs.iloc[-1]) if len(aucs) else None,
        "verdict": of.level.slug,
        "conclusion": " ".join(said[slug] for slug in CONCLUSION if slug in said),
        "guarantee": None if of.guarantee is None else of.guarantee.statement,
        "updates": _updates(with_levels(folder.leakage(), valid_accounts(folder))),
        "named": [named(one) for one in lines(folder.identification())],
    }


def _situation(folder: RunFolder) -> Situation:
    accounts = valid_accounts(folder)
    counted = with_levels(unmasked(folder.leakage()), accounts)
    identified = naming([folder.identification()])
    evidence = Evidence(rows=counted, accounts=accounts, recorded=False, naming=identified)
    return situation_of(folder.path, folder.info(), of_folder(folder), evidence)


def _images(folder: RunFolder) -> dict[str, int]:
    """Return how many X-rays each client trained on."""
    return {str(client): int(images) for client, images in folder.info()["clients"].items()}


def _updates(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the pictures' figures of each update that was attacked."""

    def update(one: Row) -> tuple[int, str]:
        return one["round"], one["client"]

    return [_update(list(own)) for _, own in groupby(sorted(rows, key=update), key=update)]


def _update(own: Sequence[Row]) -> dict[str, Any]:
    done = [one for one in own if one["status"] == "ok"]
    psnrs = [one["psnr"] for one in done if one["psnr"] is not None]
    bounds = [one["bound_psnr"] for one in done if one["bound_psnr"] is not None]
    return {
        "client": own[0]["client"],
        "round": own[0]["round"],
        "images": len({one["image"] for one in done}),
        "attacked": bool(done),
        "psnr": mean(psnrs),
        "psnr_worst": max(psnrs, default=None),
        "prior_psnr": mean(one["prior_psnr"] for one in done),
        "null_psnr": mean(one["null_psnr"] for one in done),
        "bound_psnr": max(bounds, default=None),
        "verdict": worst_of(one["level"] for one in own).slug,
        "proved": mean(float(one["certificate"] == "proved") for one in done),
    }


def named(one: Named) -> dict[str, Any]:
    """Return who was named in an update, or by all of a hospital's."""
    told = {name: one.row[name] for name in ("client", "round", "members", "candidates", "auc")}
    return told | {"hits": one.hits, "low": one.low, "high": one.high, "chance": one.chance}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("results/hospitals"), help="the runs")
    parser.add_argument("--out", type=Path, help="JSON lines; those of other scenarios stay")
    parser.add_argument("--only", action="append", choices=SCENARIOS, help="one scenario; repeat")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of every run"
    )
    given = parser.parse_args()
    changes = dict(one.split("=", 1) for one in given.set)
    rows = []
    for scenario in given.only or SCENARIOS:
        rows.append(row(scenario, completed(scenario, given.runs / scenario, changes)))
        if given.out is not None:
            common.put_rows(given.out, rows, "scenario")
        Console(stderr=True).print(f"{scenario}: {rows[-1]['verdict']}, {rows[-1]['seconds']} s")
    common.json_line({"rows": rows})


if __name__ == "__main__":
    main()
