"""A comparison as one file that others can cite: verdicts, figures, settings and versions.

It names no file and no patient, and says the same for the same runs, so that a change of it is a
change of a result.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any

import pandas as pd

from adversary.common.files import atomic_write
from adversary.report.comparison import ComparisonRow, Run, headlines
from adversary.report.identified import valid_accounts
from adversary.report.leakage_rows import records, with_levels
from adversary.report.redaction import REDACTED, contains_path, is_sensitive
from adversary.scoring.verdict import Severity
from adversary.storage import csv_table
from adversary.storage.names import unmasked
from adversary.storage.run_folder import RunFolder, RunFolderError, one_line_io_errors

SCHEMA = 1
"""Version of the layout; a reader of another one should stop."""

NAME = "comparison.json"

MEMBERS: csv_table.Schema = {
    "round": "Int64",
    "client": "string",
    "attack": "string",
    "member": "string",
    "seconds": "float64",
    "score": "float64",
    "note": "string",
}
"""Columns of members.csv in a run's folder: what each attack of an ensemble came to."""

_OF_THE_RUN = {"seed", "out", "resume"}
"""Settings in which the runs of a comparison differ by themselves."""

_FIGURES: dict[str, dict[str, str]] = {
    "psnr": {"mean": "psnr", "std": "psnr_std", "worst": "psnr_worst"},
    "bound_psnr": {"mean": "bound_psnr", "worst": "bound_psnr_worst", "limit": "limit"},
    "expected_psnr": {"mean": "expected_psnr"},
    "prior_psnr": {"mean": "prior_psnr"},
    "null_psnr": {"mean": "null_psnr"},
    "ssim": {"mean": "ssim"},
    "lpips": {"mean": "lpips"},
    "rdlv": {"mean": "rdlv"},
    "reidentified": {"rate": "reidentified", "chance": "chance"},
    "identification": {"auc": "identification_auc", "tpr_1": "tpr_1", "named": "named"},
    "label_accuracy": {"rate": "label_accuracy"},
    "auc": {"mean": "auc", "std": "auc_std"},
    "loss": {"mean": "loss"},
    "privacy": {"epsilon": "epsilon", "delta": "delta"},
    "seconds": {"mean": "seconds"},
}

_IMAGE = (
    "round", "client", "attack", "image", "psnr", "ssim", "lpips", "rdlv", "bound_psnr",
    "expected_psnr", "prior_psnr", "null_psnr", "null_rdlv", "certificate", "member",
    "reidentified", "negative", "rank", "label_true", "label_recovered", "seconds", "evaluations",
    "score", "status",
)  # fmt: skip
"""Columns of leakage.csv told of each image; the patient's name and the notes are not."""

_TRAINING = ("auc", "loss", "epsilon", "delta")

_Done = tuple[RunFolder, Mapping[str, Any]]
"""A completed run: its folder, and what run.json holds."""


@lru_cache
def reported() -> tuple[Mapping[str, Any], ...]:
    """Return figures of papers, as their sources state them.

    Each has ``source``, ``setting``, ``psnr`` in dB and, where it is known, ``ssim``, ``attack``
    and ``matches``, the label of the setting here that it is nearest to, with what ``differs``.
    """
    path = Path(__file__).with_name("reported.json")
    return tuple(json.loads(path.read_text(encoding="utf-8")))


def record(
    rows: Sequence[ComparisonRow], chosen: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return a comparison as plain values, in a fixed order of keys.

    Parameters
    ----------
    rows : sequence of Row
        From :func:`adversary.report.comparison.compare_runs`.
    chosen : mapping
        Flat settings of a run of each setting, by the setting's label.
    """
    first = headlines(rows)
    done = {
        run.path: found
        for row in first
        for run in row.setting.runs
        if (found := _completed(run)) is not None
    }
    infos = [info for _, info in done.values()]
    hidden = any(map(is_sensitive, infos))
    common = _common(chosen.values())
    labels = {row.label for row in first}
    return {
        "schema": SCHEMA,
        "date": max((str(info["ended"])[:10] for info in infos if info.get("ended")), default=None),
        "versions": _shared(info.get("versions") for info in infos),
        "device": _shared(info.get("device") for info in infos),
        "revision": _shared(info.get("revision") for info in infos),
        "data": None if hidden else _shared(_data(info) for info in infos),
        "seeds": sorted({run.seed for row in first for run in row.setting.runs}),
        "common": _settings(common, hidden),
        "settings": [
            _setting(row, done, _changes(chosen.get(row.label, {}), common), hidden)
            for row in first
        ],
        "reported": [one for one in reported() if one.get("matches") in labels],
    }


def write(
    folder: Path, rows: Sequence[ComparisonRow], chosen: Mapping[str, Mapping[str, Any]]
) -> Path:
    """Write comparison.json into ``folder`` and return its path; see :func:`record`.

    Raises
    ------
    RunFolderError
        If it cannot be written.
    """
    path = folder / NAME
    text = json.dumps(_plain(record(rows, chosen)), indent=1, ensure_ascii=False, allow_nan=False)
    with one_line_io_errors(path), atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    return path


def _setting(
    row: ComparisonRow, done: Mapping[Path, _Done], changes: Mapping[str, Any], hidden: bool
) -> dict[str, Any]:
    figures = {key: getattr(row, key) for keys in _FIGURES.values() for key in keys.values()}
    return {
        "label": row.label,
        "defence": row.setting.defence,
        "changes": _settings(changes, hidden),
        "attack": row.attack,
        "verdict": row.verdict,
        "settled": row.level.settled,
        "certificates": dict(row.certificates),
        "proved": row.proved,
        "flags": list(row.flags),
        "examined": asdict(row.examined),
        "figures": {
            name: {kind: figures[key] for kind, key in keys.items()}
            for name, keys in _FIGURES.items()
        },
        "status": row.status,
        "note": REDACTED if hidden and row.note else row.note,
        "runs": [_run(run, done.get(run.path), hidden) for run in row.setting.runs],
    }


def _run(run: Run, found: _Done | None, hidden: bool) -> dict[str, Any]:
    if found is None:
        return {"seed": run.seed, "status": "missing"}
    folder, info = found
    rounds = folder.rounds()
    images = with_levels(unmasked(folder.leakage()), valid_accounts(folder))
    return {
        "seed": run.seed,
        "status": info.get("status"),
        "seconds": info.get("seconds"),
        "candidates": info.get("candidates"),
        "oracles": info.get("oracles", []),
        "bound": info.get("bound"),
        "training": {column: _last(rounds[column]) for column in _TRAINING},
        "images": [_image(row) for row in images],
        "members": _members(folder, hidden),
        "identification": records(unmasked(folder.identification())),
    }


def _image(row: Mapping[str, Any]) -> dict[str, Any]:
    level: Severity = row["level"]
    return {
        **{column: row[column] for column in _IMAGE},
        "flags": [flag for flag in (row["flags"] or "").split(";") if flag],
        "verdict": None if level is Severity.UNKNOWN else level.slug,
    }


def _members(folder: RunFolder, hidden: bool) -> list[dict[str, Any]]:
    """Return what the members of an ensemble came to; empty where the run tells nothing of it."""
    try:
        rows = records(unmasked(csv_table.read(folder.path / "members.csv", MEMBERS)))
    except (OSError, ValueError):
        return []
    told = [column for column in MEMBERS if not (hidden and column == "note")]
    return [{column: row[column] for column in told} for row in rows]


def _completed(run: Run) -> _Done | None:
    try:
        folder = RunFolder.open(run.path)
        info = folder.info()
    except RunFolderError:
        return None
    return (folder, info) if info.get("status") == "completed" else None


def _data(info: Mapping[str, Any]) -> Any:
    data = info.get("data")
    if not isinstance(data, Mapping):
        return None
    told = ("name", "attribution", "synthetic", "private", "public", "test")
    return {key: data.get(key) for key in told}


def _common(every: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the settings that all have, alike."""
    first, *others = list(every) or [{}]
    return {
        key: value
        for key, value in first.items()
        if key not in _OF_THE_RUN and all(key in one and one[key] == value for one in others)
    }


def _changes(settings: Mapping[str, Any], common: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in settings.items() if k not in common and k not in _OF_THE_RUN}


def _settings(settings: Mapping[str, Any], hidden: bool) -> dict[str, Any]:
    """Return settings by name; of a path its last part alone, or nothing of it."""
    return {key: _told(key, settings[key], hidden) for key in sorted(settings)}


def _told(key: str, value: Any, hidden: bool) -> Any:
    if not contains_path(key) or not value:
        return value
    return REDACTED if hidden else PurePath(str(value)).name


def _shared(values: Iterable[Any]) -> Any:
    """Return what all have in common; where they differ, each once."""
    different: list[Any] = []
    for value in values:
        if value is not None and value not in different:
            different.append(value)
    return different[0] if len(different) == 1 else different or None


def _last(values: pd.Series) -> float | None:
    known = values.dropna()
    return float(known.iloc[-1]) if len(known) else None


def _plain(value: Any) -> Any:
    """Return JSON's values; what is no finite number is null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if value is None or value is pd.NA or isinstance(value, (str, bool, int)):
        return None if value is pd.NA else value
    number = float(value)
    return number if math.isfinite(number) else None
