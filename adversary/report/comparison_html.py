"""The page of a comparison: made from the folders of its runs alone."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import pandas as pd
from markupsafe import Markup

from adversary.report import charts, pictures
from adversary.report.comparison import Row, Run, front, headlines
from adversary.report.files import replacing
from adversary.report.pages.scripts import FILTERS, SORTING
from adversary.report.run_folder import RunFolder, RunFolderError, unmasked, writing
from adversary.report.sensitive import LEFT_OUT, is_sensitive
from adversary.report.templating import epsilon, figure, template
from adversary.report.verdict import CLOSE_PSNR

AUC_MARGIN = 0.02
"""AUC that a defence may cost and still count as nearly free."""

LEARNT_AUC = 0.7
"""AUC of the undefended model below which others say little."""

UNDEFENDED = "none"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One setting's reconstruction of the patient of the strip; empty ``picture``: ``why``."""

    number: int
    label: str
    attack: str | None = None
    psnr: float | None = None
    picture: str = ""
    why: str = "not attacked"


@dataclass(frozen=True, kw_only=True)
class Strip:
    """One patient under every setting, pictures as data URIs."""

    truth: str
    round: int
    seed: int
    picture: str
    panels: list[Panel]


@dataclass(frozen=True)
class Link:
    """A run's report, from the folder of the comparison."""

    seed: int
    href: str


def render(folder: Path, rows: Sequence[Row], *, same_conditions: bool = True) -> Path:
    """Write comparison.html into ``folder`` and return its path.

    If any of the runs is to be kept from view (see :mod:`adversary.report.sensitive`), the page
    shows no patient.

    Parameters
    ----------
    folder : Path
        Of the comparison; the links to the runs' reports are from here.
    rows : sequence of Row
        From :func:`adversary.report.comparison.measure`.
    same_conditions : bool
        Whether the runs differ in nothing but what their settings name.

    Raises
    ------
    RunFolderError
        If it cannot be written.
    """
    first = headlines(rows)
    best = front(first)
    runs = [run for row in first for run in row.setting.runs]
    hidden = any(map(_is_sensitive, runs))
    if hidden:  # the words of errors may name files
        first = [replace(row, note=LEFT_OUT if row.note else "") for row in first]
    page = template("comparison.html").render(
        title=folder.name,
        rows=first,
        runs_done=sum(row.runs for row in first),
        runs_all=len(runs),
        summary=summarise(first),
        cautions=_cautions(first),
        chart=Markup(_chart(first, best)),  # matplotlib escapes the names in it
        chart_text=_chart_in_words(first, best),
        front=best,
        strip=None if hidden else _strip(first),
        sensitive=hidden,
        same_conditions=same_conditions,
        defences=sorted({row.setting.defence for row in first}),
        links={row.label: _links(folder, row.setting.runs) for row in first},
        script=Markup(SORTING + FILTERS),
    )
    path = folder / "comparison.html"
    with writing(path), replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")
    return path


def summarise(rows: Sequence[Row]) -> list[str]:
    """Return what the settings' strongest attacks and models say, a sentence each."""
    seen = [row for row in rows if row.psnr is not None]
    if not seen:
        return ["No setting has been attacked yet; there is nothing to compare so far."]
    none = _undefended(rows)
    sentences = []
    if none is not None and none.psnr is not None:
        rate = none.reidentified
        singled = "" if rate is None else f" It singles out {rate:.0%} of the patients."
        sentences.append(
            f"Without a defence the strongest attack ({none.attack}) reaches "
            f"{figure(none.psnr, 1)} dB on average and {figure(none.psnr_worst, 1)} dB at worst."
            f"{singled} The model’s AUC is {figure(none.auc, 3)}."
        )
    least = min(seen, key=_leakage)
    free = None
    if none is not None and none.auc is not None:
        near = [r for r in seen if r.auc is not None and r.auc >= none.auc - AUC_MARGIN]
        if near:
            free = min(near, key=_leakage)
            sentences.append(
                f"The least leakage at an AUC within {AUC_MARGIN:g} of no defence is that of "
                f"{free.label}: {figure(free.psnr, 1)} dB. {_cost(free, none)}"
            )
    if least is free:
        sentences.append("No setting leaks less than that.")
    else:
        sentences.append(
            f"The least leakage of all is that of {least.label}: {figure(least.psnr, 1)} dB. "
            f"{_cost(least, none)}"
        )
    private = sorted(
        (row for row in seen if row.epsilon is not None), key=lambda row: row.epsilon or 0.0
    )
    sentences += [
        f"Differential privacy with ε = {epsilon(row.epsilon)} ({row.label}): "
        f"{figure(row.psnr, 1)} dB at an AUC of {figure(row.auc, 3)}."
        for row in private
    ]
    return sentences


def _cautions(rows: Sequence[Row]) -> list[str]:
    none = _undefended(rows)
    cautions = []
    if none is not None and none.auc is not None and none.auc < LEARNT_AUC:
        cautions.append(
            f"Without a defence the model’s AUC is only {none.auc:.2f}: it has hardly learnt, so "
            "these AUCs do not tell what a defence costs. Take more rounds or more data."
        )
    if any(row.runs == 1 for row in rows) and not any(row.runs > 1 for row in rows):
        cautions.append("One seed each: how far figures vary by chance is not known.")
    broken = [row.label for row in rows if row.status != "completed"]
    if broken:
        cautions.append(f"Not complete, see the notes in the table: {', '.join(broken)}.")
    return cautions


def _undefended(rows: Sequence[Row]) -> Row | None:
    """Return the setting without a defence and, if there are several, with the fewest changes."""
    plain = [row for row in rows if row.setting.defence == UNDEFENDED]
    return min(plain, key=lambda row: len(row.setting.parameters), default=None)


def _leakage(row: Row) -> float:
    return math.inf if row.psnr is None else row.psnr


def _cost(row: Row, none: Row | None) -> str:
    """Return what a setting costs and takes away, in a sentence; empty where it is not known."""
    if none is None or row is none or none.auc is None or row.auc is None:
        return ""
    lost = none.auc - row.auc
    cost = f"costs {lost:.3f} of AUC" if lost >= 0.0005 else "costs no AUC"
    if none.psnr is None or row.psnr is None or not math.isfinite(none.psnr - row.psnr):
        return f"It {cost}."
    taken = none.psnr - row.psnr
    return f"It {cost}, and takes {figure(taken, 1)} dB from the attacker."


def _chart(rows: Sequence[Row], best: set[str]) -> str:
    return charts.frontier(
        [
            (
                row.label,
                math.nan if row.auc is None else row.auc,
                math.nan if row.psnr is None else row.psnr,
                row.auc_std,
                row.psnr_std,
            )
            for row in rows
        ],
        best,
        (CLOSE_PSNR, f"{CLOSE_PSNR:g} dB: close to the patient"),
    )


def _chart_in_words(rows: Sequence[Row], best: set[str]) -> str:
    points = [
        f"{number} {row.label}: AUC {figure(row.auc, 3)}, {figure(row.psnr, 1)} dB"
        f"{', on the Pareto front' if row.label in best else ''}"
        for number, row in enumerate(rows, 1)
    ]
    return "Leakage against AUC. " + "; ".join(points)


def _strip(rows: Sequence[Row]) -> Strip | None:
    """Return the first attacked patient whom the most settings have in common."""
    tables: dict[str, tuple[Run, RunFolder, pd.DataFrame]] = {}
    for row in rows:
        if (found := _first_seen(row)) is not None:
            tables[row.label] = found
    seeds = [run.seed for run, _, _ in tables.values()]
    if not seeds:
        return None
    seed = max(seeds, key=seeds.count)
    tables = {label: found for label, found in tables.items() if found[0].seed == seed}
    everyone = pd.concat([t[["round", "client", "image", "truth"]] for _, _, t in tables.values()])
    shared = everyone.groupby(["round", "truth"]).agg(
        many=("truth", "size"), client=("client", "min"), image=("image", "min")
    )
    # The same patient in the same round; ties go to the first round, client and image.
    ordered = shared.reset_index().sort_values(
        ["many", "round", "client", "image"], ascending=[False, True, True, True]
    )
    server_round, truth = int(ordered["round"].iloc[0]), str(ordered["truth"].iloc[0])
    panels, picture = [], ""
    for number, row in enumerate(rows, 1):
        if row.label not in tables:
            panels.append(Panel(number=number, label=row.label))
            continue
        _, folder, table = tables[row.label]
        mine = table[(table["round"] == server_round) & (table["truth"] == truth)]
        if mine.empty:
            panels.append(Panel(number=number, label=row.label, why="not among its images"))
            continue
        one = mine.iloc[0]
        place = folder.images(server_round, str(one["client"]), str(row.attack))
        picture = picture or _thumbnail(place, "truth", int(one["image"]))
        panels.append(
            Panel(
                number=number,
                label=row.label,
                attack=row.attack,
                psnr=None if pd.isna(one["psnr"]) else float(one["psnr"]),
                picture=_thumbnail(place, "reconstruction", int(one["image"])),
                why="no picture",
            )
        )
    return Strip(truth=truth, round=server_round, seed=seed, picture=picture, panels=panels)


def _first_seen(row: Row) -> tuple[Run, RunFolder, pd.DataFrame] | None:
    """Return the first run of a setting with images of its strongest attack, and their rows."""
    for run in row.setting.runs:
        try:
            folder = RunFolder.open(run.path)
            leakage = unmasked(folder.leakage())
            completed = folder.info().get("status") == "completed"
        except RunFolderError:
            continue
        mine = leakage[(leakage["attack"] == row.attack) & (leakage["status"] == "ok")]
        mine = mine.dropna(subset=["truth", "round", "image"])
        if completed and len(mine):
            return run, folder, mine
    return None


def _thumbnail(place: Path, kind: str, image: int) -> str:
    pixels = pictures.read(pictures.picture(place, kind, image))
    return "" if pixels is None else pictures.thumbnail(pixels)


def _links(folder: Path, runs: Sequence[Run]) -> list[Link]:
    return [
        Link(run.seed, quote(Path(os.path.relpath(run.path / "report.html", folder)).as_posix()))
        for run in runs
        if (run.path / "report.html").exists()
    ]


def _is_sensitive(run: Run) -> bool:
    try:
        return is_sensitive(RunFolder.open(run.path).info())
    except RunFolderError:
        return False
