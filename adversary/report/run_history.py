"""An index of the runs below a folder: what each found, and what changed since the last like it.

After Evidently's history of runs: one line a run, made from the runs' folders alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from adversary.common.files import atomic_write
from adversary.report.first_page.about_run import AboutRun, about_run
from adversary.report.first_page.guarantee import Guarantee, guarantee_of
from adversary.report.identified import valid_accounts
from adversary.report.notices import NOTICES
from adversary.report.redaction import is_sensitive, redact
from adversary.report.run_groups import compared_settings
from adversary.report.summary import Summary, of_folder
from adversary.report.templating import epsilon, format_number, template
from adversary.storage.run_folder import RunFolder, RunFolderError, one_line_io_errors

NAME = "index.html"

DEPTH = 4
"""Folders below the one given in which runs are looked for; a comparison's lie three below."""

_NOTEWORTHY = 0.5  # dB by which a limit must move to be told: bounds are estimates


@dataclass(frozen=True, kw_only=True)
class PastRun:
    """A run in the index.

    Parameters
    ----------
    name : str
        Its folder, from the index.
    href : str
        Its report, from the index; empty where there is none.
    status, started : str
        As in run.json.
    about, summary, guarantee
        What was run, what was found, and what is promised.
    changed : str
        What is different from the last run of the same settings.
    """

    name: str
    href: str
    status: str
    started: str
    about: AboutRun
    summary: Summary
    guarantee: Guarantee | None
    changed: str = ""


def render(place: Path) -> Path:
    """Write index.html into a folder that holds runs, and return its path.

    Raises
    ------
    RunFolderError
        If there is no run below it, or it cannot be written.
    """
    runs = history(place)
    page = template("history.html").render(
        runs=runs,
        title=place.absolute().name,
        script="",
        notice=NOTICES["index"],
        about={"title": "Runs"},
    )
    path = place / NAME
    with one_line_io_errors(path), atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")
    return path


def history(place: Path) -> list[PastRun]:
    """Return the runs below a folder, the latest first; damaged ones are left out.

    Raises
    ------
    RunFolderError
        If there is none.
    """
    found: list[PastRun] = []
    last: dict[str, PastRun] = {}
    for folder, info in sorted(_runs(place), key=lambda run: str(run[1].get("started") or "")):
        run = _past_run(place, folder, info)
        settings = compared_settings(info)
        key = repr(sorted(settings.items())) if settings else run.name
        found.append(_compared(run, last.get(key)))
        last[key] = run
    if not found:
        raise RunFolderError(f"{place}: no run, and no folder of a run below it")
    return found[::-1]


def _runs(place: Path) -> list[tuple[RunFolder, Mapping[str, Any]]]:
    found: list[tuple[RunFolder, Mapping[str, Any]]] = []
    for path in sorted(_folders(place, DEPTH)):
        try:
            folder = RunFolder.open(path)
            found.append((folder, folder.info()))
        except RunFolderError:
            continue
    return found


def _folders(place: Path, depth: int) -> list[Path]:
    """Return the folders with a run.json; nothing is looked for inside a run."""
    if (place / "run.json").exists():
        return [place]
    if depth == 0 or not place.is_dir():
        return []
    below = [one for one in place.iterdir() if one.is_dir() and not one.is_symlink()]
    return [found for one in below for found in _folders(one, depth - 1)]


def _past_run(place: Path, folder: RunFolder, info: Mapping[str, Any]) -> PastRun:
    report = folder.path / "report.html"
    shown = redact(info, folder.path.absolute().name) if is_sensitive(info) else info
    return PastRun(
        name=os.path.relpath(folder.path, place),
        href=quote(os.path.relpath(report, place)) if report.exists() else "",
        status=str(info.get("status") or "unknown"),
        started=str(info.get("started") or "")[:16].replace("T", " "),
        about=about_run(shown, folder.path),
        summary=of_folder(folder),
        guarantee=guarantee_of(valid_accounts(folder)),
    )


def _compared(run: PastRun, before: PastRun | None) -> PastRun:
    if before is None:
        return replace(run, changed="first of these settings")
    differences = _differences(before, run)
    return replace(run, changed="; ".join(differences) or f"as {before.name}")


def _differences(before: PastRun, after: PastRun) -> Sequence[str]:
    told = []
    if before.summary.level is not after.summary.level:
        told.append(f"{before.summary.level.label} → {after.summary.level.label}")
    limits = before.summary.bound, after.summary.bound
    if None in limits and limits[0] is not limits[1]:
        told.append("bound worked out" if limits[0] is None else "no bound any more")
    elif (
        limits[0] is not None
        and limits[1] is not None
        and (abs(limits[0] - limits[1]) >= _NOTEWORTHY)
    ):
        told.append(f"bound {format_number(limits[0], 1)} → {format_number(limits[1], 1)} dB")
    spent = [None if one.guarantee is None else one.guarantee.epsilon for one in (before, after)]
    if epsilon(spent[0]) != epsilon(spent[1]):
        told.append(f"ε {epsilon(spent[0])} → {epsilon(spent[1])}")
    if before.about.version != after.about.version:
        told.append(f"{before.about.version or 'unknown version'} → {after.about.version}")
    return told
