"""What several runs say of their defences, side by side: one row a defence and attack."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from adversary.report import table
from adversary.report.files import replacing
from adversary.report.rows import levelled
from adversary.report.run_folder import RunFolder, RunFolderError, unmasked, writing
from adversary.report.verdict import Level, worst

COMPARISON: table.Schema = {
    "defence": "string",
    "parameters": "string",
    "label": "string",
    "attack": "string",
    "epsilon": "float64",
    "delta": "float64",
    "auc": "float64",
    "auc_std": "float64",
    "loss": "float64",
    "psnr": "float64",
    "psnr_worst": "float64",
    "psnr_std": "float64",
    "ssim": "float64",
    "lpips": "float64",
    "rdlv": "float64",
    "reidentified": "float64",
    "bound_psnr": "float64",
    "label_accuracy": "float64",
    "seconds": "float64",
    "runs": "Int64",
    "status": "string",
    "note": "string",
}
"""Columns of comparison.csv and comparison_attacks.csv.

Means are over the images of a run and then over its runs, one a seed; ``auc_std`` and
``psnr_std`` are standard deviations over the runs, empty for a single one. ``psnr_worst`` is the
highest PSNR of any image, ``reidentified`` and ``label_accuracy`` are rates, ``epsilon`` and
``delta`` the largest that a run ended with, ``seconds`` the mean wall time of a run and ``runs``
how many runs are in the row.
"""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a setting: its seed and where its folder is, or will be."""

    seed: int
    path: Path
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Setting:
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
class Row:
    """A row of the comparison; the fields are the columns of :data:`COMPARISON`, and more.

    Parameters
    ----------
    level : Level
        What the most revealing of the images means for its patient.
    protects : str
        What the defence protects against whom.
    setting : Setting
        Where it comes from.
    """

    setting: Setting
    protects: str = ""
    level: Level = Level.UNKNOWN
    attack: str | None = None
    epsilon: float | None = None
    delta: float | None = None
    auc: float | None = None
    auc_std: float | None = None
    loss: float | None = None
    psnr: float | None = None
    psnr_worst: float | None = None
    psnr_std: float | None = None
    ssim: float | None = None
    lpips: float | None = None
    rdlv: float | None = None
    reidentified: float | None = None
    bound_psnr: float | None = None
    label_accuracy: float | None = None
    seconds: float | None = None
    runs: int = 0
    status: str = "completed"
    note: str = ""

    @property
    def label(self) -> str:
        """The setting's name."""
        return self.setting.label

    def cells(self) -> dict[str, Any]:
        """Return the row of the table."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        own |= {
            "defence": self.setting.defence,
            "parameters": self.setting.parameters,
            "label": self.label,
        }
        return {column: own[column] for column in COMPARISON}


@dataclass(frozen=True)
class _Result:
    """What a completed run left behind."""

    folder: RunFolder
    info: Mapping[str, Any]
    leakage: pd.DataFrame
    rounds: pd.DataFrame


def measure(settings: Iterable[Setting]) -> list[Row]:
    """Return a row for each setting and attack, the strongest attack of each setting first.

    The strongest is the one with the highest mean PSNR. A setting without a completed run, or
    without any attack, has one row, whose status or empty attack says so.
    """
    return [row for setting in settings for row in _measure(setting)]


def headlines(rows: Iterable[Row]) -> list[Row]:
    """Return the first row of each setting, that of its strongest attack."""
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(row.label, row)
    return list(first.values())


def write_tables(folder: Path, rows: Sequence[Row]) -> None:
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
        with writing(folder / name), replacing(folder / name) as temporary:
            table.create(temporary, COMPARISON)
            table.append(temporary, COMPARISON, [row.cells() for row in some])


def front(rows: Iterable[Row]) -> set[str]:
    """Return the labels of the rows on the Pareto front of high AUC and low PSNR.

    On it are those that no other row beats in one without being worse in the other.
    """
    known = [
        (row.label, row.auc, row.psnr)
        for row in rows
        if row.auc is not None and row.psnr is not None
    ]
    return {
        label
        for label, auc, psnr in known
        if not any(
            other_auc >= auc and other_psnr <= psnr and (other_auc, other_psnr) != (auc, psnr)
            for _, other_auc, other_psnr in known
        )
    }


def _measure(setting: Setting) -> list[Row]:
    results, notes = [], []
    for run in setting.runs:
        try:
            results.append(_result(run))
        except RunFolderError as error:
            notes.append(f"seed {run.seed}: {run.note or error}")
    if not results:
        status = "failed" if any(run.note for run in setting.runs) else "missing"
        return [Row(setting=setting, status=status, note="; ".join(notes))]
    shared: dict[str, Any] = {
        "protects": str(results[0].info.get("defence", {}).get("protects", "")),
        "status": "incomplete" if notes else "completed",
        "runs": len(results),
        **_training(results),
    }
    names = sorted({name for result in results for name in _attacks(result)})
    rows = [
        Row(setting=setting, attack=name, **shared, **_leakage(results, name, notes))
        for name in names
    ]
    if not rows:
        return [Row(setting=setting, **shared, note="; ".join([*notes, "not attacked"]))]
    return sorted(rows, key=lambda row: -math.inf if row.psnr is None else row.psnr, reverse=True)


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
    return _Result(folder, info, unmasked(folder.leakage()), folder.rounds())


def _attacks(result: _Result) -> list[str]:
    names = result.leakage["attack"].dropna().unique()
    return [str(name) for name in names if name != "-"]


def _training(results: Sequence[_Result]) -> dict[str, float | None]:
    """Return what each run's model came to, over the runs."""
    last = {
        column: [_last(result.rounds[column]) for result in results]
        for column in ("auc", "loss", "epsilon", "delta")
    }
    seconds = [result.info.get("seconds") for result in results]
    return {
        "auc": _over(statistics.fmean, last["auc"]),
        "auc_std": _spread(last["auc"]),
        "loss": _over(statistics.fmean, last["loss"]),
        "epsilon": _over(max, last["epsilon"]),
        "delta": _over(max, last["delta"]),
        "seconds": _over(statistics.fmean, seconds),
    }


def _leakage(results: Sequence[_Result], attack: str, notes: Sequence[str]) -> dict[str, Any]:
    """Return how much one attack saw, over the runs."""
    frames = [r.leakage[r.leakage["attack"] == attack] for r in results]
    done = [frame[frame["status"] == "ok"] for frame in frames]
    failed = sum(len(frame) for frame in frames) - sum(len(frame) for frame in done)
    told = [*notes, *([f"{failed} attacks failed"] if failed else [])]
    means = {
        column: [_mean(frame, column) for frame in done]
        for column in ("psnr", "ssim", "lpips", "rdlv", "reidentified", "bound_psnr")
    }
    everything = pd.concat(done)
    return {
        **{column: _over(statistics.fmean, values) for column, values in means.items()},
        "psnr_std": _spread(means["psnr"]),
        "psnr_worst": _over(max, everything["psnr"].dropna().tolist()),
        "label_accuracy": _over(statistics.fmean, [_label_accuracy(frame) for frame in done]),
        "level": worst(row["level"] for row in levelled(everything)),
        "note": "; ".join(told),
    }


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


def _spread(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return statistics.stdev(known) if len(known) > 1 else None
