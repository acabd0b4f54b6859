"""The page of a comparison: made from the folders of its runs alone."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
from markupsafe import Markup

from adversary.common.files import atomic_write
from adversary.report import charts, comparison_naming, pictures
from adversary.report.comparison import ComparisonRow, Run, headlines, pareto_front
from adversary.report.flags import FLAGS
from adversary.report.glossary import GLOSSARY
from adversary.report.identified import valid_accounts
from adversary.report.leakage_rows import closeness, with_levels
from adversary.report.notices import NOTICES
from adversary.report.promises import Promise
from adversary.report.redaction import REDACTED, is_sensitive
from adversary.report.ruler import ruler
from adversary.report.run_info import FEWEST_FOR_AUC
from adversary.report.span_bars import TICKS, place, span_bar
from adversary.report.templates.scripts import FILTERS, SORTING
from adversary.report.templating import epsilon, format_number, percent, template
from adversary.scoring.verdict import CLOSE_PSNR, Severity
from adversary.storage.names import unmasked
from adversary.storage.run_folder import RunFolder, RunFolderError, one_line_io_errors

LEARNT_AUC = 0.7
"""AUC of the undefended model below which others say little."""

UNDEFENDED = "none"


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What a reader may conclude of the settings of one kind.

    Parameters
    ----------
    kind : str
        A key of :data:`adversary.report.charts.KINDS`, or ``unknown``.
    title, meaning : str
        Over the settings of the kind.
    said : str
        Beside the verdict of one.
    """

    kind: str
    title: str
    meaning: str
    said: str


_LEAKS = Standing(
    kind="leaks",
    title="Shown to leak",
    meaning="The server saw at least one patient’s X-ray. A stronger attack changes nothing.",
    said="settled: leaks",
)
_PARTLY = Standing(
    kind="partly",
    title="Leak in part",
    meaning="Something of a patient came through. How much more is there is not settled.",
    said="leaks; how much is open",
)
_OPEN = Standing(
    kind="open",
    title="Open: not settled",
    meaning="The attack got little, and more may be there. This is no evidence of safety.",
    said="not settled",
)
_PROTECTS = Standing(
    kind="protects",
    title="Shown to protect",
    meaning="A bound, the posterior or a privacy guarantee leaves nobody more than chance.",
    said="settled: protects",
)
_UNKNOWN = Standing(
    kind="unknown",
    title="Not measured",
    meaning="There is no figure to judge by.",
    said="not measured",
)

STANDINGS = {
    Severity.VISIBLE: _LEAKS,
    Severity.IDENTIFIABLE: _PARTLY,
    Severity.TRACES: _PARTLY,
    Severity.OPEN: _OPEN,
    Severity.PROTECTED: _PROTECTS,
    Severity.UNKNOWN: _UNKNOWN,
}
"""By level, worst first."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Settings of one standing, each with its number in the table."""

    standing: Standing
    members: list[tuple[int, ComparisonRow]]


@dataclass(frozen=True, kw_only=True)
class PromiseGroup:
    """Settings that claim the same against the server, worst first, each with its number."""

    promise: Promise
    members: list[tuple[int, ComparisonRow]]


@dataclass(frozen=True, kw_only=True)
class WorstXray:
    """A setting's own worst X-ray: truth and reconstruction as data URIs, empty where missing."""

    number: int
    row: ComparisonRow
    truth: str
    picture: str
    where: str


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One setting's reconstruction of the patient of the strip; empty ``picture``: ``why``."""

    number: int
    label: str
    level: Severity = Severity.UNKNOWN
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


def render(folder: Path, rows: Sequence[ComparisonRow], *, same_conditions: bool = True) -> Path:
    """Write comparison.html into ``folder`` and return its path.

    If any of the runs is to be kept from view (see :mod:`adversary.report.redaction`), the page
    shows no patient.

    Parameters
    ----------
    folder : Path
        Of the comparison; the links to the runs' reports are from here.
    rows : sequence of Row
        From :func:`adversary.report.comparison.compare_runs`.
    same_conditions : bool
        Whether the runs differ in nothing but what their settings name.

    Raises
    ------
    RunFolderError
        If it cannot be written.
    """
    first = headlines(rows)
    same_data = len({row.data for row in first if row.data}) <= 1
    first = ordered(first) if same_data else sorted(first, key=lambda row: (row.data, row.label))
    best = pareto_front(first) if same_data and _learnt(first) else set()
    hidden = any(_is_sensitive(run) for row in first for run in row.setting.runs)
    if hidden:  # the words of errors may name files
        first = [replace(row, note=REDACTED if row.note else "") for row in first]
    page = template("comparison.html").render(
        **_words_context(first, best, same_data=same_data),
        **_table_context(folder, first),
        **comparison_naming.context(
            first, lambda level: STANDINGS[level].kind, same_data=same_data
        ),
        title=folder.name,
        chart=Markup(_chart(first, best)) if same_data else "",  # matplotlib escapes the names
        front=best,
        strip=None if hidden else _strip(first),
        worst=[] if hidden else _worst_xrays(first),
        sensitive=hidden,
        ruler=None if hidden else ruler(),
        notice=NOTICES["sensitive" if hidden else "images"],
        same_conditions=same_conditions,
        same_data=same_data,
        script=Markup(SORTING + FILTERS),
    )
    path = folder / "comparison.html"
    with one_line_io_errors(path), atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")
    return path


def _words_context(
    first: Sequence[ComparisonRow], best: set[str], *, same_data: bool
) -> dict[str, Any]:
    """Return what the page says in sentences."""
    return {
        "summary": summarise(first, same_data=same_data),
        "examined": _examined(first),
        "cautions": _cautions(first, same_data=same_data),
        "chart_text": _chart_in_words(first, best),
        "flags": [FLAGS[name] for name in FLAGS if any(name in row.flags for row in first)],
        "titles": {name: flag.title for name, flag in FLAGS.items()},
        "terms": GLOSSARY,
        "about": {"title": "Defences compared"},
    }


def _table_context(folder: Path, first: Sequence[ComparisonRow]) -> dict[str, Any]:
    """Return what the tables show."""
    return {
        "rows": first,
        "runs_done": sum(row.runs for row in first),
        "runs_all": sum(len(row.setting.runs) for row in first),
        "groups": _groups(first),
        "promises": _by_promise(first),
        "bars": {row.label: span_bar(row.psnr_worst, row.limit) for row in first},
        "ticks": [(tick, place(tick)) for tick in TICKS],
        "standings": STANDINGS,
        "defences": sorted({row.setting.defence for row in first}),
        "links": {row.label: _links(folder, row.setting.runs) for row in first},
        "fewest": FEWEST_FOR_AUC,
    }


def _by_promise(rows: Sequence[ComparisonRow]) -> list[PromiseGroup]:
    """Return the settings by what they claim against the server, in the order of the page."""
    numbered = list(enumerate(rows, 1))
    return [
        PromiseGroup(promise=promise, members=members)
        for promise in Promise
        if (members := [(number, row) for number, row in numbered if row.promise is promise])
    ]


def ordered(rows: Iterable[ComparisonRow]) -> list[ComparisonRow]:
    """Return the rows by standing, worst first; within one those that may leak most come first."""
    return sorted(rows, key=_order, reverse=True)


def _order(row: ComparisonRow) -> tuple[Severity, float]:
    if row.level is Severity.OPEN:
        return row.level, math.inf if row.limit is None else row.limit
    return row.level, -math.inf if row.psnr_worst is None else row.psnr_worst


def summarise(rows: Sequence[ComparisonRow], *, same_data: bool = True) -> list[str]:
    """Return what attacks and bounds settle and what they leave open, a sentence each.

    An attack that failed recommends no defence: only an upper limit does. Of different data no
    price is told.
    """
    seen = ordered(row for row in rows if row.psnr is not None)
    if not seen:
        return ["No setting has been attacked yet; there is nothing to compare so far."]
    by_kind = {
        kind: [row for row in seen if STANDINGS[row.level].kind == kind] for kind in charts.KINDS
    }
    sentences = []
    if by_kind["leaks"]:
        told = "; ".join(_leak(row) for row in by_kind["leaks"])
        sentences.append(f"Shown to leak, for the server saw a patient’s X-ray: {told}.")
    sentences += [
        f"“{row.label}” leaks in part ({row.level.label.lower()}): "
        f"{comparison_naming.clause(row)}the attack got {_worst(row)}, and {_more(row)}."
        for row in by_kind["partly"]
    ]
    sentences += [
        f"“{row.label}” is open: the attack got {_worst(row)}, and {_more(row)}. That is no "
        "evidence of safety."
        for row in by_kind["open"]
    ]
    none = _undefended(seen) if same_data and _learnt(seen) else None
    sentences += [
        f"“{row.label}” protects: {_why(row)}{_cost(row, none)}." for row in by_kind["protects"]
    ]
    sentences += [
        f"“{row.label}” is not measured: too little is known of its images."
        for row in seen
        if row.level is Severity.UNKNOWN
    ]
    if not by_kind["protects"]:
        sentences.append("No setting is shown to protect.")
    if none is not None:
        sentences.append(f"Without a defence the model’s AUC is {format_number(none.auc, 3)}.")
    return [*sentences, *_privacy(seen)]


def _leak(row: ComparisonRow) -> str:
    proved = "" if row.proved is None else f", proved of {percent(row.proved)} of the images"
    return f"{row.label} ({_worst(row)}{proved})"


def _worst(row: ComparisonRow) -> str:
    exact = row.psnr_worst is not None and math.isinf(row.psnr_worst)
    return "an exact copy" if exact else f"{format_number(row.psnr_worst, 1)} dB"


def _more(row: ComparisonRow) -> str:
    if row.limit is None:
        return "how much may be there is not known"
    return f"up to {format_number(row.limit, 1)} dB may be there"


def _why(row: ComparisonRow) -> str:
    if row.bound_psnr_worst is None:
        return "its updates tell an attacker nothing beyond public X-rays"
    mean = "" if row.prior_psnr is None else f"; the mean public X-ray has {row.prior_psnr:.1f} dB"
    return f"no attacker is expected to exceed {format_number(row.limit, 1)} dB{mean}"


def _privacy(seen: Sequence[ComparisonRow]) -> list[str]:
    """Return which mechanisms earn an epsilon, and which claim none."""
    promised = [row for row in seen if row.epsilon is not None]
    said = [f"“{row.label}”: {_epsilon_in_words(row)}" for row in promised]
    return [
        *said,
        *(
            f"“{row.label}” claims no ε: without noise nothing is earned."
            for row in seen
            if row.unearned
        ),
    ]


def _epsilon_in_words(row: ComparisonRow) -> str:
    if row.guarantee is None:
        return f"ε = {epsilon(row.epsilon)}; of what, and against whom, its run does not tell."
    against = (
        "" if row.guarantee.holds_against_server else " It promises nothing against the server."
    )
    return f"{row.guarantee.statement}{against}"


def _groups(rows: Sequence[ComparisonRow]) -> list[Group]:
    """Return the settings by standing; those of none are left out but for open and protected."""
    numbered = list(enumerate(rows, 1))
    return [
        Group(standing=standing, members=members)
        for standing in dict.fromkeys(STANDINGS.values())
        if (members := [(n, row) for n, row in numbered if STANDINGS[row.level] == standing])
        or standing in (_LEAKS, _OPEN, _PROTECTS)
    ]


def _examined(rows: Sequence[ComparisonRow]) -> list[str]:
    """Return what was looked at, a sentence for all settings of which it is the same."""
    by: dict[str, list[str]] = {}
    for row in rows:
        if row.psnr is not None:
            by.setdefault(str(row.examined), []).append(row.label)
    if len(by) == 1:
        return [f"Examined under every setting: {next(iter(by))}. Others were not looked at."]
    return [f"Examined under {', '.join(labels)}: {what}." for what, labels in by.items()]


def _cautions(rows: Sequence[ComparisonRow], *, same_data: bool) -> list[str]:
    none = _undefended(rows)
    cautions = []
    if not same_data:
        told = "; ".join(sorted({f"“{row.label}”: {row.data or 'not recorded'}" for row in rows}))
        cautions.append(f"These runs are on different data, so nothing is ranked: {told}.")
    if few := [row.label for row in rows if (row.evaluated or FEWEST_FOR_AUC) < FEWEST_FOR_AUC]:
        cautions.append(
            f"No AUC is told where fewer than {FEWEST_FOR_AUC} images were evaluated: "
            f"{', '.join(few)}."
        )
    if late := [row.label for row in rows if row.unfinished]:
        cautions.append(
            f"An attack was cut off by a limit, which says nothing for these settings: "
            f"{', '.join(late)}."
        )
    if none is not None and none.auc is not None and none.auc < LEARNT_AUC:
        cautions.append(
            f"Without a defence the model’s AUC is only {none.auc:.2f}: it has hardly learnt, so "
            "these AUCs do not tell what a defence costs. Take more rounds or more data."
        )
    loose = [row.label for row in rows if not row.bound_converged]
    if loose:
        cautions.append(
            f"The estimates behind some bounds did not converge ({', '.join(loose)}): read these "
            "bounds as a guide."
        )
    if any(row.runs == 1 for row in rows) and not any(row.runs > 1 for row in rows):
        cautions.append("One seed each: how far figures vary by chance is not known.")
    broken = [row.label for row in rows if row.status != "completed"]
    if broken:
        cautions.append(f"Not complete, see the notes in the table: {', '.join(broken)}.")
    return cautions


def _undefended(rows: Sequence[ComparisonRow]) -> ComparisonRow | None:
    """Return the setting without a defence and, if there are several, with the fewest changes."""
    plain = [row for row in rows if row.setting.defence == UNDEFENDED]
    return min(plain, key=lambda row: len(row.setting.parameters), default=None)


def _learnt(rows: Sequence[ComparisonRow]) -> bool:
    """Whether the undefended model, or the best where there is none, has learnt anything."""
    none = _undefended(rows)
    if none is not None:
        return none.auc is not None and none.auc >= LEARNT_AUC
    return any(row.auc is not None and row.auc >= LEARNT_AUC for row in rows)


def _cost(row: ComparisonRow, none: ComparisonRow | None) -> str:
    """Return what a setting costs in AUC, as the end of a sentence; empty where not known."""
    if none is None or none.auc is None or row.auc is None:
        return ""
    lost = none.auc - row.auc
    return f"; it costs {lost:.3f} of AUC" if lost >= 0.0005 else "; it costs no AUC"


def _chart(rows: Sequence[ComparisonRow], best: set[str]) -> str:
    priors = [row.prior_psnr for row in rows if row.prior_psnr is not None]
    marks = [(CLOSE_PSNR, f"{CLOSE_PSNR:g} dB: close\nto the patient")]
    if priors:
        marks.append((statistics.fmean(priors), "mean public\nX-ray"))
    return charts.privacy_utility_chart(
        [
            charts.Span(
                name=row.label,
                auc=math.nan if row.auc is None else row.auc,
                reached=math.nan if row.psnr_worst is None else row.psnr_worst,
                limit=row.limit,
                kind=STANDINGS[row.level].kind,
                auc_std=row.auc_std,
            )
            for row in rows
        ],
        best,
        marks,
    )


def _chart_in_words(rows: Sequence[ComparisonRow], best: set[str]) -> str:
    points = [
        f"{number} {row.label}: AUC {format_number(row.auc, 3)}, {STANDINGS[row.level].said}, "
        f"attack {format_number(row.psnr_worst, 1)} dB, "
        f"upper limit {format_number(row.limit, 1)} dB"
        f"{', on the Pareto front' if row.label in best else ''}"
        for number, row in enumerate(rows, 1)
    ]
    return "Leakage, from attack to bound, against AUC. " + "; ".join(points)


def _strip(rows: Sequence[ComparisonRow]) -> Strip | None:
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
            panels.append(Panel(number=number, label=row.label, level=row.level))
            continue
        _, folder, table = tables[row.label]
        mine = table[(table["round"] == server_round) & (table["truth"] == truth)]
        if mine.empty:
            why = "not among its images"
            panels.append(Panel(number=number, label=row.label, level=row.level, why=why))
            continue
        one = mine.iloc[0]
        place = folder.images(server_round, str(one["client"]), str(row.attack))
        picture = picture or _thumbnail(place, "truth", int(one["image"]))
        panels.append(
            Panel(
                number=number,
                label=row.label,
                level=row.level,
                attack=row.attack,
                psnr=None if pd.isna(one["psnr"]) else float(one["psnr"]),
                picture=_thumbnail(place, "reconstruction", int(one["image"])),
                why="no picture",
            )
        )
    return Strip(truth=truth, round=server_round, seed=seed, picture=picture, panels=panels)


def _worst_xrays(rows: Sequence[ComparisonRow]) -> list[WorstXray]:
    """Return the worst X-ray of each setting that was attacked, with its own truth."""
    return [
        found
        for number, row in enumerate(rows, 1)
        if (found := _worst_xray(number, row)) is not None
    ]


def _worst_xray(number: int, row: ComparisonRow) -> WorstXray | None:
    seen = [
        (closeness(one), folder, one)
        for _, folder, table in _attacked(row)
        for one in with_levels(table, valid_accounts(folder))
    ]
    if not seen:
        return None
    _, folder, one = max(seen, key=lambda entry: entry[0])
    images = folder.images(one["round"], str(one["client"]), str(row.attack))
    return WorstXray(
        number=number,
        row=row,
        truth=_thumbnail(images, "truth", one["image"]),
        picture=_thumbnail(images, "reconstruction", one["image"]),
        where=f"{one['truth'] or 'image'} of {one['client']}, round {one['round']}",
    )


def _attacked(row: ComparisonRow) -> Iterator[tuple[Run, RunFolder, pd.DataFrame]]:
    """Yield the completed runs of a setting, with the rows of its strongest attack."""
    for run in row.setting.runs:
        try:
            folder = RunFolder.open(run.path)
            leakage = unmasked(folder.leakage())
            completed = folder.info().get("status") == "completed"
        except RunFolderError:
            continue
        mine = leakage[(leakage["attack"] == row.attack) & (leakage["status"] == "ok")]
        if completed and len(mine):
            yield run, folder, mine


def _first_seen(row: ComparisonRow) -> tuple[Run, RunFolder, pd.DataFrame] | None:
    """Return the first run of a setting with images of its strongest attack, and their rows."""
    for run, folder, mine in _attacked(row):
        seen = mine.dropna(subset=["truth", "round", "image"])
        if len(seen):
            return run, folder, seen
    return None


def _thumbnail(place: Path, kind: str, image: int) -> str:
    pixels = pictures.read(pictures.picture_path(place, kind, image))
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
