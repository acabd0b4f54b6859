"""What several runs say of their defences, side by side: one row a defence and attack.

A setting is judged by its worst image: an average over a copy and a failure hides the copy.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from adversary.common.files import atomic_write
from adversary.report.first_page.guarantee import Guarantee, guarantee_of
from adversary.report.flags import FLAGS
from adversary.report.identified import naming, valid_accounts
from adversary.report.leakage_rows import Row, with_levels
from adversary.report.promises import Promise, promise_of
from adversary.report.run_info import (
    FEWEST_FOR_AUC,
    evaluated_images,
    flattened,
    mapping,
    positive,
)
from adversary.scoring.verdict import Evidence, Severity, with_names, worst_of
from adversary.storage import csv_table
from adversary.storage.names import unmasked
from adversary.storage.run_folder import RunFolder, RunFolderError, one_line_io_errors

COMPARISON: csv_table.Schema = {
    "defence": "string",
    "parameters": "string",
    "label": "string",
    "attack": "string",
    "verdict": "string",
    "proved": "float64",
    "epsilon": "float64",
    "delta": "float64",
    "auc": "float64",
    "auc_std": "float64",
    "loss": "float64",
    "psnr": "float64",
    "psnr_worst": "float64",
    "psnr_std": "float64",
    "expected_psnr": "float64",
    "prior_psnr": "float64",
    "null_psnr": "float64",
    "ssim": "float64",
    "lpips": "float64",
    "rdlv": "float64",
    "reidentified": "float64",
    "bound_psnr": "float64",
    "bound_psnr_worst": "float64",
    "identification_auc": "float64",
    "tpr_1": "float64",
    "named": "float64",
    "label_accuracy": "float64",
    "images": "Int64",
    "seconds": "float64",
    "runs": "Int64",
    "flags": "string",
    "status": "string",
    "note": "string",
}
"""Columns of comparison.csv and comparison_attacks.csv.

``verdict`` is the worst of the images' levels (visible, identifiable, traces, open or protected;
empty where nothing was measured); protected only where every image is. ``proved`` is the share of
the images whose certificate says so, ``flags`` all that were raised, separated by semicolons.
Means are over the images of a run and then over its runs, one a seed; ``auc_std`` and
``psnr_std`` are standard deviations over the runs, empty for a single one. ``psnr_worst`` and
``bound_psnr_worst`` are the highest of any image, ``reidentified`` and ``label_accuracy`` are
rates, ``epsilon`` and ``delta`` the largest that a run ended with, empty where a mechanism earns
none. ``identification_auc`` is how well those who trained are told from others by the updates
(``auc`` is the model's), ``tpr_1`` the share of them named at one false alarm in a hundred and
``named`` at a false discovery rate of 5 %, over the updates of all runs. ``images`` counts the
reconstructions scored, ``seconds`` is the mean wall time of a run and ``runs`` how many runs are
in the row.
"""

_MEANS = (
    "psnr",
    "expected_psnr",
    "prior_psnr",
    "null_psnr",
    "ssim",
    "lpips",
    "rdlv",
    "reidentified",
    "bound_psnr",
)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a setting: its seed and where its folder is, or will be."""

    seed: int
    path: Path
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ComparedSetting:
    """One defence at one strength, and its runs.

    Parameters
    ----------
    label : str
        Its name in the comparison.
    defence, parameters : str
        The defence, and its options and whatever else differs, as text.
    runs : tuple of Run
        One a seed; those that are not completed count as missing.
    """

    label: str
    defence: str
    parameters: str
    runs: tuple[Run, ...]


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What was looked at before a setting was judged.

    Parameters
    ----------
    clients, hospitals : int
        Clients whose updates were attacked, of how many.
    rounds, rounds_run : int
        Rounds in which they were, of how many.
    images, images_held : int
        Images of which there is a reconstruction, over all runs, of how many in a run's clients.
    runs : int
        Runs, one a seed.
    aggregate : bool
        Whether the server saw the sum over all clients alone.
    """

    clients: int = 0
    hospitals: int = 0
    rounds: int = 0
    rounds_run: int = 0
    images: int = 0
    images_held: int = 0
    runs: int = 0
    aggregate: bool = False

    def __str__(self) -> str:
        whose = (
            f"the aggregate of {_of(0, self.hospitals, 'hospital')}"
            if self.aggregate
            else _of(self.clients, self.hospitals, "hospital")
        )
        images = f"{self.images} image{'s' * (self.images != 1)}"
        held = f" of {self.images_held} that the hospitals hold" if self.images_held else ""
        runs = f"{self.runs} run{'s' * (self.runs != 1)}"
        return f"{whose}, {_of(self.rounds, self.rounds_run, 'round')}, {images}{held}, {runs}"


@dataclass(frozen=True, kw_only=True)
class ComparisonRow:
    """A row of the comparison; the fields are the columns of :data:`COMPARISON`, and more.

    Parameters
    ----------
    setting : Setting
        Where it comes from.
    protects : str
        What the defence protects against whom.
    level : Level
        What the most revealing of the images means for its patient.
    psnr_counted : float or None
        The highest PSNR of an image that is nearer to its patient than to strangers.
    limit : float or None
        dB that no attacker is expected to exceed in any of the images; None where that is not
        known of all of them.
    chance : float or None
        Rate of re-identification by chance.
    guarantee : Guarantee or None
        The weakest finite account of a hospital.
    promise : Promise
        What the setting claims against the server.
    data : str
        What it was run on: figures of different data are not to be ranked.
    evaluated : int or None
        Images that the AUC was found on.
    unfinished : bool
        Whether a limit cut an attack off, so that it is no evidence of what there is to see.
    naming_chance : float
        Probability that as many patients are named by chance.
    unearned : bool
        Whether a privacy mechanism ended without noise, and so without a finite epsilon.
    bound_converged : bool
        Whether the estimates behind the bounds did.
    certificates : mapping
        How many images have which certificate.
    examined : Examined
        What was looked at.
    """

    setting: ComparedSetting
    protects: str = ""
    guarantee: Guarantee | None = None
    promise: Promise = Promise.UNKNOWN
    data: str = ""
    evaluated: int | None = None
    unfinished: bool = False
    level: Severity = Severity.UNKNOWN
    attack: str | None = None
    proved: float | None = None
    epsilon: float | None = None
    delta: float | None = None
    unearned: bool = False
    auc: float | None = None
    auc_std: float | None = None
    loss: float | None = None
    psnr: float | None = None
    psnr_worst: float | None = None
    psnr_counted: float | None = None
    psnr_std: float | None = None
    expected_psnr: float | None = None
    prior_psnr: float | None = None
    null_psnr: float | None = None
    ssim: float | None = None
    lpips: float | None = None
    rdlv: float | None = None
    reidentified: float | None = None
    chance: float | None = None
    bound_psnr: float | None = None
    bound_psnr_worst: float | None = None
    bound_converged: bool = True
    limit: float | None = None
    identification_auc: float | None = None
    tpr_1: float | None = None
    named: float | None = None
    naming_chance: float = 1.0
    label_accuracy: float | None = None
    certificates: Mapping[str, int] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    images: int = 0
    examined: Examined = Examined()
    seconds: float | None = None
    runs: int = 0
    status: str = "completed"
    note: str = ""

    @property
    def label(self) -> str:
        """The setting's name."""
        return self.setting.label

    @property
    def verdict(self) -> str | None:
        """The level in the tables; None where nothing was measured."""
        return None if self.level is Severity.UNKNOWN else self.level.slug

    @property
    def severity(self) -> tuple[Severity, float, float]:
        """Orders rows by the worst case: by level, then by the highest PSNR beyond the null."""
        return self.level, _or_least(self.psnr_counted), _or_least(self.psnr_worst)

    def cells(self) -> dict[str, Any]:
        """Return the row of the table."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        own |= {
            "defence": self.setting.defence,
            "parameters": self.setting.parameters,
            "label": self.label,
            "verdict": self.verdict,
            "flags": ";".join(self.flags),
        }
        return {column: own[column] for column in COMPARISON}


@dataclass(frozen=True)
class _Result:
    """What a completed run left behind."""

    folder: RunFolder
    info: Mapping[str, Any]
    leakage: pd.DataFrame
    rounds: pd.DataFrame
    accounts: list[Row]


def compare_runs(settings: Iterable[ComparedSetting]) -> list[ComparisonRow]:
    """Return a row for each setting and attack, the strongest attack of each setting first.

    The strongest is the one of the worst case: the worst level, then the highest PSNR of an image
    that is beyond the null. A setting without a completed run, or
    without any attack, has one row, whose status or empty attack says so.
    """
    return [row for setting in settings for row in _measure(setting)]


def headlines(rows: Iterable[ComparisonRow]) -> list[ComparisonRow]:
    """Return the first row of each setting, that of its strongest attack."""
    first: dict[str, ComparisonRow] = {}
    for row in rows:
        first.setdefault(row.label, row)
    return list(first.values())


def write_tables(folder: Path, rows: Sequence[ComparisonRow]) -> None:
    """Write comparison.csv, a row a setting, and comparison_attacks.csv, one for each attack.

    Raises
    ------
    RunFolderError
        If they cannot be written.
    """
    for name, some in (
        ("comparison.csv", headlines(rows)),
        ("comparison_attacks.csv", rows),
    ):
        with one_line_io_errors(folder / name), atomic_write(folder / name) as temporary:
            csv_table.create(temporary, COMPARISON)
            csv_table.append(temporary, COMPARISON, [row.cells() for row in some])


def pareto_front(rows: Iterable[ComparisonRow]) -> set[str]:
    """Return the labels of the rows on the Pareto front of high AUC and low upper limit.

    On it are those that no other row beats in one without being worse in the other. What an
    attack reached has no say: an attack that failed is no reason to take a defence. Rows without
    an upper limit are not on it, nor are those of which an attack had not finished.
    """
    known = [
        (row.label, row.auc, row.limit)
        for row in rows
        if row.auc is not None
        and row.limit is not None
        and math.isfinite(row.limit)
        and not row.unfinished
    ]
    return {
        label
        for label, auc, limit in known
        if not any(
            other_auc >= auc and other <= limit and (other_auc, other) != (auc, limit)
            for _, other_auc, other in known
        )
    }


def in_lines(rows: Sequence[ComparisonRow]) -> list[str]:
    """Return the settings as lines of a terminal: verdict, worst PSNR to upper limit, names."""
    first = headlines(rows)
    cells: list[tuple[str, ...]] = [("setting", "verdict", "worst PSNR to bound")]
    cells += [(row.label, row.level.label, _span(row)) for row in first]
    if any(row.tpr_1 is not None for row in first):
        names = ["named at 1 % false alarms", *map(_names, first)]
        cells = [(*cell, name) for cell, name in zip(cells, names, strict=True)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(cells[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def _names(row: ComparisonRow) -> str:
    return "not looked for" if row.tpr_1 is None else f"{row.tpr_1:.0%} of patients"


def _span(row: ComparisonRow) -> str:
    if row.psnr_worst is None:
        return row.note or "not attacked"
    reached, bound = f"{row.psnr_worst:.1f} dB", row.bound_psnr_worst
    if bound is None:
        return f"{reached}, bound not known"
    of_some = ", of some images none" if row.limit is None else ""
    if bound <= row.psnr_worst:
        return f"{reached}, at its bound of {bound:.1f} dB{of_some}"
    return f"{reached} to {bound:.1f} dB{of_some}"


def _measure(setting: ComparedSetting) -> list[ComparisonRow]:
    results, notes = [], []
    for run in setting.runs:
        try:
            results.append(_result(run))
        except RunFolderError as error:
            notes.append(f"seed {run.seed}: {run.note or error}")
    if not results:
        status = "failed" if any(run.note for run in setting.runs) else "missing"
        return [ComparisonRow(setting=setting, status=status, note="; ".join(notes))]
    defence = mapping(results[0].info.get("defence"))
    guarantee = guarantee_of([row for result in results for row in result.accounts])
    shared: dict[str, Any] = {
        "guarantee": guarantee,
        "data": data_of(results[0].info),
        "protects": str(defence.get("protects", "")),
        "status": "incomplete" if notes else "completed",
        "runs": len(results),
        "chance": _over(statistics.fmean, [_chance(result.info) for result in results]),
        **_training(results),
        **_identified(results),
    }
    names = sorted({name for result in results for name in _attacks(result)})
    rows = [
        _with_names(
            ComparisonRow(setting=setting, attack=name, **shared, **_leakage(results, name, notes))
        )
        for name in names
    ]
    if not rows:
        alone = ComparisonRow(setting=setting, **shared, note="; ".join([*notes, "not attacked"]))
        rows = [_with_names(alone)]
    rows = [
        dataclasses.replace(row, promise=promise_of(row.level, guarantee, defence, setting.defence))
        for row in rows
    ]
    return sorted(rows, key=lambda row: row.severity, reverse=True)


def _result(run: Run) -> _Result:
    """Return what a run left.

    Raises
    ------
    RunFolderError
        If it is not completed.
    """
    if not (run.path / "run.json").exists():
        raise RunFolderError("not run yet")
    folder = RunFolder.open(run.path)
    info = folder.info()
    if info.get("status") != "completed":
        reason = info.get("reason")
        raise RunFolderError(f"{info.get('status')}{f': {reason}' if reason else ''}")
    return _Result(
        folder=folder,
        info=info,
        leakage=unmasked(folder.leakage()),
        rounds=folder.rounds(),
        accounts=valid_accounts(folder),
    )


def _attacks(result: _Result) -> list[str]:
    names = result.leakage["attack"].dropna().unique()
    return [str(name) for name in names if name != "-"]


def _training(results: Sequence[_Result]) -> dict[str, Any]:
    """Return what each run's model came to, over the runs."""
    last = {
        column: [_last(result.rounds[column]) for result in results]
        for column in ("auc", "loss", "epsilon", "delta")
    }
    evaluated = [evaluated_images(result.info) for result in results]
    last["auc"] = [
        auc if many is None or many >= FEWEST_FOR_AUC else None
        for auc, many in zip(last["auc"], evaluated, strict=True)
    ]
    seconds = [result.info.get("seconds") for result in results]
    epsilon = _over(max, last["epsilon"])
    unearned = epsilon is not None and not math.isfinite(epsilon)
    if unearned:  # a mechanism without noise claims nothing
        epsilon = None
    return {
        "auc": _over(statistics.fmean, last["auc"]),
        "auc_std": _spread(last["auc"]),
        "evaluated": min((many for many in evaluated if many is not None), default=None),
        "loss": _over(statistics.fmean, last["loss"]),
        "epsilon": epsilon,
        "unearned": unearned,
        "delta": None if epsilon is None else _over(max, last["delta"]),
        "seconds": _over(statistics.fmean, seconds),
    }


def _identified(results: Sequence[_Result]) -> dict[str, Any]:
    """Return who can be named, over the updates of all runs."""
    found = naming(result.folder.identification() for result in results)
    return {
        "identification_auc": found.auc,
        "tpr_1": found.tpr_1,
        "named": found.named,
        "naming_chance": found.chance,
    }


def _with_names(row: ComparisonRow) -> ComparisonRow:
    return dataclasses.replace(row, level=with_names(row.level, row.naming_chance))


def _leakage(results: Sequence[_Result], attack: str, notes: Sequence[str]) -> dict[str, Any]:
    """Return how much one attack saw, over the runs."""
    frames = [r.leakage[r.leakage["attack"] == attack] for r in results]
    done = [frame[frame["status"] == "ok"] for frame in frames]
    failed = sum(len(frame) for frame in frames) - sum(len(frame) for frame in done)
    told = [*notes, *([f"{failed} attacks failed"] if failed else [])]
    means = {column: [_mean(frame, column) for frame in done] for column in _MEANS}
    images = [
        row
        for result, frame in zip(results, done, strict=True)
        for row in with_levels(frame, result.accounts)
    ]
    psnr = [row["psnr"] for row in images]
    return {
        **{column: _over(statistics.fmean, values) for column, values in means.items()},
        "psnr_std": _spread(means["psnr"]),
        "psnr_worst": _over(max, psnr),
        "psnr_counted": _over(max, (row["psnr"] for row in images if _beyond_null(row))),
        "bound_psnr_worst": _over(max, (row["bound_psnr"] for row in images)),
        "bound_converged": all(_converged(result.info) for result in results),
        "limit": _limit(images),
        "label_accuracy": _over(statistics.fmean, [_label_accuracy(frame) for frame in done]),
        "level": _level([row["level"] for row in images], failed=failed),
        "proved": _proved(images),
        "certificates": _certificates(images),
        "flags": union_of_flags(row["flags"] for row in images),
        "images": len(images),
        "unfinished": any("time-limit" in (row["flags"] or "") for row in images),
        "examined": _examined(results, done),
        "note": "; ".join(told),
    }


def union_of_flags(cells: Iterable[str | None]) -> tuple[str, ...]:
    """Return the flags of several cells, each once, in the order in which they are explained."""
    found = {flag for cell in cells for flag in (cell or "").split(";") if flag}
    order = {flag: place for place, flag in enumerate(FLAGS)}
    return tuple(sorted(found, key=lambda flag: (order.get(flag, len(order)), flag)))


def _level(levels: Sequence[Severity], *, failed: int) -> Severity:
    """Return the worst level; protected only where it is that of every update attacked."""
    found = worst_of(levels)
    settled = not failed and Severity.UNKNOWN not in levels
    return Severity.OPEN if found is Severity.PROTECTED and not settled else found


def _beyond_null(row: Mapping[str, Any]) -> bool:
    return Evidence(psnr=row["psnr"], null_psnr=row["null_psnr"]).beyond_null


def _limit(images: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the highest upper limit of the images, None unless each has one.

    A bound is an expectation: what an attack reached beyond it counts.
    """
    limits = [_upper(row) for row in images]
    known = [limit for limit in limits if limit is not None]
    if not known or len(known) < len(limits):
        return None
    return max(known + [row["psnr"] for row in images if row["psnr"] is not None])


def _upper(row: Mapping[str, Any]) -> float | None:
    """Return an image's bound or, where its update tells nothing, PSNR of the prior's mean."""
    if row["bound_psnr"] is not None:
        return float(row["bound_psnr"])
    return row["prior_psnr"] if row["certificate"] == "nothing" else None


def _certificates(images: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return dict(sorted(Counter(row["certificate"] for row in images if row["certificate"]).items()))


def _proved(images: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the share of proved images, None where no attack states certificates."""
    stated = _certificates(images)
    return stated.get("proved", 0) / len(images) if stated else None


def _examined(results: Sequence[_Result], done: Sequence[pd.DataFrame]) -> Examined:
    everything = pd.concat(done)
    held = [_clients(result.info) for result in results]
    places = [
        frame[["round", "client", "truth", "image"]].drop_duplicates()
        for frame in done
        if len(frame)
    ]
    views = [result.info.get("threat") for result in results]
    return Examined(
        clients=everything["client"].nunique(),
        hospitals=max(map(len, held)),
        rounds=everything["round"].nunique(),
        rounds_run=max(len(result.rounds) for result in results),
        images=sum(map(len, places)),
        images_held=max(sum(clients.values()) for clients in held),
        runs=len(results),
        aggregate=any(
            isinstance(threat, Mapping) and threat.get("view") == "aggregate" for threat in views
        ),
    )


def data_of(info: Mapping[str, Any]) -> str:
    """Return in words what a run was run on; empty where run.json does not tell."""
    data = mapping(info.get("data"))
    size = flattened(mapping(info.get("settings"))).get("data.image-size")
    parts = (
        str(data.get("name") or ""),
        f"{data['private']} X-rays" if positive(data.get("private")) else "",
        f"{size} pixels" if size else "",
    )
    return ", ".join(filter(None, parts))


def _converged(info: Mapping[str, Any]) -> bool:
    bound = info.get("bound")
    return not isinstance(bound, Mapping) or bool(bound.get("converged", True))


def _chance(info: Mapping[str, Any]) -> float | None:
    candidates = info.get("candidates")
    return 1 / candidates if isinstance(candidates, int) and candidates > 0 else None


def _clients(info: Mapping[str, Any]) -> dict[str, int]:
    """Return how many images each client holds, empty where run.json does not tell."""
    clients = info.get("clients")
    if not isinstance(clients, Mapping):
        return {}
    return {str(name): many for name, many in clients.items() if isinstance(many, int)}


def _mean(frame: pd.DataFrame, column: str) -> float | None:
    if column not in frame:
        return None
    known = frame[column].dropna()
    return float(known.astype(float).mean()) if len(known) else None


def _label_accuracy(frame: pd.DataFrame) -> float | None:
    known = frame.dropna(subset=["label_true"])
    if known.empty:
        return None
    return float((known["label_true"] == known["label_recovered"].fillna("")).mean())


def _last(values: pd.Series) -> float | None:
    known = values.dropna()
    return float(known.iloc[-1]) if len(known) else None


def _over(summary: Callable[[list[float]], float], values: Iterable[float | None]) -> float | None:
    """Return a summary of the values that are known; None where there are none."""
    known = [value for value in values if value is not None]
    return summary(known) if known else None


def _or_least(value: float | None) -> float:
    return -math.inf if value is None else value


def _of(some: int, every: int, what: str) -> str:
    """Return ``1 of 8 hospitals``, as far as it is known."""
    counts = [str(count) for count in (some, every) if count]
    return f"{' of '.join(counts) or 'no'} {what}{'s' * (counts[-1:] != ['1'])}"


def _spread(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return statistics.stdev(known) if len(known) > 1 else None
