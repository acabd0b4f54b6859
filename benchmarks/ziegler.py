"""The chest X-ray system of Ziegler et al. 2022: its federations trained, attacked, and read.

    python -m benchmarks ziegler --data chest_xray.zip
    python -m benchmarks ziegler --data CheXpert-v1.0-small/train.csv --quick
    python -m benchmarks ziegler --data chest_xray.zip --set data.image-size=224 \
        --set model.weights=imagenet --set adversary.ing.iterations=4800 --set device=cuda

Runs what ``configs/ziegler.toml`` compares, as ``fl-sim compare`` does: FedAvg of 36 hospitals,
each part frozen, and DP-SGD at four budgets; the update of the hospital with four images is
attacked in the rounds 1, 4, 7 and 10. ``--data`` is Mendeley's (Kermany's) zip file or folder, or a
table as CheXpert's, of which "No Finding" is the label. A run that is complete is kept: the same
command goes on where it stopped. Each run's folder holds its trials: ``trials.csv`` and, below
``history``, the pictures and figures of each trial and image. ``--quick`` takes minutes: six
hospitals, small images and few steps.

A line a run: {label, data, size, model, weights, norm, freeze, clients, xrays, test, rounds,
options, budget, epsilon, delta, auc, seconds, revision, attacks: [{round, attack, trial, start,
chosen, images, score, psnr, psnr_worst, ssim, rdlv, prior_psnr, null_psnr, null_rdlv,
reidentified}], named: [...]}. ``auc`` is by round; of the ``budget``, ``epsilon`` is spent;
``attacks`` is by trial, ``named`` as in ``python -m benchmarks hospitals``; ``seconds`` is wall
time.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table as Shown

from adversary.common.errors import UserError, one_line_error
from adversary.common.files import atomic_write
from adversary.report import pictures
from adversary.report.identified import lines
from adversary.report.run_info import mapping
from adversary.storage.run_folder import RunFolder
from benchmarks import common
from benchmarks.hospitals import named
from fl_sim.cli.options import parse_changes
from fl_sim.client_names import client_name
from fl_sim.data import load_request
from fl_sim.engines.in_process import run_in_process
from fl_sim.federation import dataset_request
from fl_sim.offline import comparison
from fl_sim.offline.comparison import Plan
from fl_sim.settings.layers import DECLARED
from fl_sim.settings.parse import flatten_toml
from fl_sim.settings.rules import SettingsError
from fl_sim.settings.schema import Settings

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "ziegler.toml"
PROGRESS = Console(stderr=True, width=160)

SMALLEST = client_name(0)
"""The hospital with four images, whose updates are attacked."""

MEASURES = ("score", "psnr", "ssim", "rdlv", "prior_psnr", "null_psnr", "null_rdlv", "reidentified")
"""Of a trial, the mean over the images of an update."""

QUICK: dict[str, Any] = {
    "rounds": 4,
    "clients": 6,
    "checkpoints": False,
    "data.image-size": 32,
    "data.num-images": 200,
    "data.sizes": "4, 8, 10, 10, 10, 10",
    "adversary.ing.iterations": 6,
    "adversary.batch-statistics.iterations": 10,
    "adversary.identify": False,
    "adversary.candidates": "200",
}
"""What a quick run has in place of what the config says, of all runs and of each."""


def planned(given: argparse.Namespace) -> Plan:
    """Return the runs, of the data that are given; smaller ones where they are to be quick."""
    config = dict(flatten_toml(tomllib.loads(CONFIG.read_text(encoding="utf-8"))))
    start = str(given.runs.absolute() / "start.png")
    config |= source(given.data) | {"adversary.start-image": start}
    if given.quick:
        own = [
            {key: QUICK.get(key, value) for key, value in entry.items()}
            for entry in config["compare.defence"]
        ]
        config |= {key: value for key, value in QUICK.items() if key in config or key in DECLARED}
        config["compare.defence"] = own
    return comparison.plan(config, parse_changes(given.set))


def source(path: Path) -> dict[str, str]:
    """Return the settings of a data set as it is published: a table is CheXpert's."""
    if path.suffix.lower() != ".csv":
        return {"data.name": "kermany", "data.path": str(path)}
    return {
        "data.name": "folder",
        "data.path": str(path),
        "data.labels": "No Finding",
        "data.uncertain": "zeros",
    }


def keep_start_image(wanted: Plan) -> None:
    """Write the X-ray that attacks are given to start from: the first public one."""
    settings = wanted.cases[0].settings
    request = dataclasses.replace(dataset_request(settings), seed=wanted.seeds[0])
    public = load_request(request).public
    if not len(public):
        raise SettingsError("data.public = 0: the X-ray to start from is a public one; must be > 0")
    place = Path(settings.adversary.start_image)
    with atomic_write(place) as temporary:
        temporary.write_bytes(pictures.encoded(pictures.to_pixels(public.tensor([0])[0])))


def row(label: str, settings: Settings, folder: RunFolder) -> dict[str, Any]:
    """Return what one run came to."""
    info, rounds = folder.info(), folder.rounds()
    accounts = folder.accounts()
    spent = accounts[accounts["client"] == SMALLEST].tail(1).to_dict("records")
    account = spent[0] if spent else {}
    budget = settings.defence.options.get("epsilon")
    return {
        "label": label,
        "data": mapping(info.get("data")).get("name"),
        "size": settings.data.image_size,
        "model": settings.model.name,
        "weights": settings.model.weights or "random",
        "norm": "group" if settings.defence.name == "dp-sgd" else settings.model.norm,
        "freeze": settings.local.freeze,
        "clients": settings.clients,
        "xrays": sum(info["clients"].values()),
        "test": mapping(info.get("data")).get("test"),
        "rounds": len(rounds[rounds["round"] > 0]),
        "options": str(settings.adversary.options),
        "budget": float(budget) if budget else None,
        "epsilon": account.get("epsilon"),
        "delta": account.get("delta"),
        "auc": _numbers(rounds["auc"]),
        "seconds": info.get("seconds"),
        "revision": mapping(info.get("versions")).get("revision"),
        "attacks": [*_trials(folder), *_without_trials(folder)],
        "named": [named(one) for one in lines(folder.identification())],
    }


def _trials(folder: RunFolder) -> Iterator[dict[str, Any]]:
    """Yield the mean over the images of an update, by round, attack and trial."""
    for (round, attack, trial), own in folder.trials().groupby(["round", "attack", "trial"]):
        told = own.iloc[0]
        yield {
            "round": int(round),
            "attack": attack,
            "trial": int(trial),
            "start": told["start"],
            "chosen": bool(told["chosen"]),
            "iterations": int(told["iterations"]),
            **_means(own),
        }


def _without_trials(folder: RunFolder) -> Iterator[dict[str, Any]]:
    """Yield the same of attacks that keep no pictures of trials."""
    rows, with_trials = folder.leakage(), set(folder.trials()["attack"])
    rest = rows[(rows["status"] == "ok") & ~rows["attack"].isin(with_trials)]
    for (round, attack), own in rest.groupby(["round", "attack"]):
        yield {"round": int(round), "attack": attack, "trial": None, "chosen": True, **_means(own)}


def _means(own: pd.DataFrame) -> dict[str, Any]:
    means = own[list(MEASURES)].astype(float).mean()
    worst = {"psnr_worst": own["psnr"].max(), "images": len(own)}
    return {name: None if pd.isna(v) else float(v) for name, v in (means.to_dict() | worst).items()}


def _numbers(column: pd.Series[float]) -> list[float | None]:
    return [None if pd.isna(value) else float(value) for value in column]


def rows_of(wanted: Plan, runs: Path) -> list[dict[str, Any]]:
    """Return the rows of the runs that are complete."""
    found = []
    for case in wanted.cases:
        settings = wanted.settings(case, wanted.seeds[0], runs)
        path = Path(settings.out)
        if (path / "run.json").exists():
            folder = RunFolder.open(path)
            if folder.info().get("status") == "completed":
                found.append(row(case.label, settings, folder))
    return found


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print what came of each trial."""
    shown = Shown(title="Means over the images of an update")
    columns = ("run", "AUC", "epsilon", "round", "attack", "start", *MEASURES)
    for name in columns:
        shown.add_column(name)
    for one in rows:
        for attack in one["attacks"]:
            about = [one["label"], _figure(one["auc"][-1]), _figure(one["epsilon"])]
            where = [str(attack["round"]), attack["attack"], attack.get("start") or "–"]
            shown.add_row(*about, *where, *(_figure(attack[name]) for name in MEASURES))
    PROGRESS.print(shown)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def run_aloud(settings: Settings) -> None:
    """Run a federation in this process, and tell its progress beside the result."""
    with redirect_stdout(sys.stderr):
        run_in_process(settings)


def only(wanted: Plan, labels: Sequence[str] | None) -> Plan:
    """Return the plan of the runs that are named; of all where none is.

    Raises
    ------
    SettingsError
        If there is no such run.
    """
    known = [case.label for case in wanted.cases]
    if unknown := [label for label in labels or () if label not in known]:
        raise SettingsError(f"--only {unknown[0]}: must be one of {', '.join(known)}")
    kept = [case for case in wanted.cases if not labels or case.label in labels]
    return dataclasses.replace(wanted, cases=tuple(kept))


def main() -> None:
    """Do the runs that are not done yet, and write and show a row of each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="zip file, folder or table")
    parser.add_argument("--runs", type=Path, default=Path("results/ziegler"), help="the runs")
    parser.add_argument("--out", type=Path, help="JSON lines; those of other runs stay")
    parser.add_argument("--only", action="append", metavar="LABEL", help="one run; repeat")
    parser.add_argument("--quick", action="store_true", help="small images and few steps")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of every run"
    )
    given = parser.parse_args()
    common.threads()
    try:
        wanted = only(planned(given), given.only)
        keep_start_image(wanted)
        comparison.check(wanted)
        failures = comparison.run(
            wanted, given.runs.absolute(), run_aloud, PROGRESS.print, jobs=given.jobs
        )
    except UserError as error:
        raise SystemExit(one_line_error(error)) from None
    rows = rows_of(wanted, given.runs.absolute())
    if given.out is not None:
        common.put_rows(given.out, rows, "label")
    show(rows)
    common.json_line({"made": len(rows), "failed": len(failures)})
    sys.exit(int(bool(failures)))


if __name__ == "__main__":
    main()
