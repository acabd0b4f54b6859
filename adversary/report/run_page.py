"""The report of a run: one self-contained HTML page made from the run's folder alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
from markupsafe import Markup

from adversary.common.files import atomic_write
from adversary.report import charts, flags, gallery, naming_section, pictures
from adversary.report.first_page.actions import next_steps
from adversary.report.first_page.answers import answers, headline
from adversary.report.first_page.assessment import OFFICER, assessment
from adversary.report.first_page.situation import Evidence, situation_of
from adversary.report.glossary import GLOSSARY
from adversary.report.groups import Group, WorstGroups, by_group, round_client_matrix, worst_of
from adversary.report.identified import Naming, naming, valid_accounts
from adversary.report.leakage_rows import Row, closeness, last_accounts, records, with_levels
from adversary.report.members import shares
from adversary.report.notices import NOTICES
from adversary.report.redaction import is_sensitive, pseudonyms, redact
from adversary.report.references import CITATIONS, cited_methods, named
from adversary.report.ruler import ruler
from adversary.report.run_info import (
    FEWEST_FOR_AUC,
    evaluated_images,
    flattened,
    in_words,
    mapping,
)
from adversary.report.summary import AVERAGE, Summary, summarise
from adversary.report.templates.scripts import FILTERS
from adversary.report.templating import format_number, template
from adversary.report.threat_summary import summarize_threat
from adversary.scoring.verdict import CLOSE_PSNR, NULL_MARGIN, Severity
from adversary.storage.names import unmasked
from adversary.storage.run_folder import ALL_ATTACKS, RunFolder, one_line_io_errors

MAX_GROUPS = 24
"""Clients, and rounds, in a table or chart of each; the worst."""

MAX_ROWS = 200
"""Reconstructions in the table of figures, and lines in other tables; the worst."""


def render(folder: RunFolder) -> Path:
    """Write report.html into the folder of a run, finished or not, and return its path.

    Everything is read from the folder, so the page can be made again at any time. However many
    updates were attacked, it shows the worst of them and sums up the others. Where run.json says
    so (see :mod:`adversary.report.redaction`) it holds no picture and no name of a file.

    Raises
    ------
    adversary.storage.run_folder.RunFolderError
        If the folder cannot be read, or the page not be written.
    """
    run = _read(folder)
    valid = valid_accounts(folder)
    rows = with_levels(run.leakage, valid)
    counted = with_levels(unmasked(run.leakage), valid)
    identified = naming([folder.identification()])
    summary = summarise(counted, run.info, identified)
    chosen = gallery.select_cards(rows)
    context = (
        _first_page(run, summary, counted, identified, valid)
        | _run_context(run, summary)
        | _leakage_context(run, rows, summary, chosen)
        | _pictures_context(run, summary.worst, chosen)
    )
    page = template("report.html").render(
        **context,
        **naming_section.context(folder, counted, identified, run.info, MAX_GROUPS),
        script=Markup(FILTERS),
        flags_page=flags.PAGE,
        average=AVERAGE,
        null_margin=NULL_MARGIN,
        sources=CITATIONS,
        levels=sorted(Severity, reverse=True),
        terms=GLOSSARY,
        ruler=None if run.sensitive else ruler(),
    )
    path = folder.path / "report.html"
    with one_line_io_errors(path), atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")
    return path


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What is on disk of a run; redacted where it is sensitive."""

    folder: RunFolder
    info: Mapping[str, Any]
    leakage: pd.DataFrame
    rounds: pd.DataFrame
    accounts: list[Row]
    missing: Mapping[str, Any]
    sensitive: bool


def _read(folder: RunFolder) -> _Run:
    info, leakage = folder.info(), folder.leakage()
    rounds, missing = folder.rounds(), dict(mapping(info.get("missing")))
    evaluated = evaluated_images(info)
    if evaluated is not None and evaluated < FEWEST_FOR_AUC:
        rounds = rounds.assign(auc=float("nan"))
        missing["auc"] = f"{evaluated} images are too few: fewer than {FEWEST_FOR_AUC}"
    sensitive = is_sensitive(info)
    if sensitive:
        info = redact(info, folder.path.absolute().name)
        leakage = leakage.assign(truth=pseudonyms(leakage["truth"]))
        missing = {}
    return _Run(
        folder=folder,
        info=info,
        leakage=leakage,
        rounds=rounds,
        accounts=last_accounts(folder.accounts()),
        missing=missing,
        sensitive=sensitive,
    )


def _first_page(
    run: _Run, summary: Summary, counted: list[Row], identified: Naming, valid: list[Row]
) -> dict[str, Any]:
    """Return what the first page and the sections of advice show; accounts are the valid ones."""
    last = run.rounds["round"].max()
    evidence = Evidence(
        rows=counted,
        accounts=valid,
        recorded=bool(run.folder.recorded_updates()),
        naming=identified,
    )
    situation = situation_of(run.folder.path, run.info, summary, evidence)
    kind = "sensitive" if run.sensitive else "synthetic" if situation.about.synthetic else "images"
    return {
        "about": situation.about,
        "answers": answers(situation),
        "headline": headline(situation),
        "steps": next_steps(situation),
        "dpia": assessment(situation),
        "officer": OFFICER,
        "notice": NOTICES[kind],
        "written": "" if pd.isna(last) else f", after round {last}",
        "folder": "RUN" if run.sensitive else run.folder.path.name,
        "comparison": _comparison_of(run.folder.path),
    }


def _run_context(run: _Run, summary: Summary) -> dict[str, Any]:
    """Return what the sections on threat, method and the run itself show."""
    info = run.info
    members = shares(run.folder.members(), run.leakage)
    attacks = set(run.leakage["attack"].dropna()) - {ALL_ATTACKS}
    return {
        "info": info,
        "sensitive": run.sensitive,
        "data": mapping(info.get("data")),
        "defence": mapping(info.get("defence")),
        "oracles": list(info.get("oracles") or ()),
        "knowledge": summarize_threat(info),
        "bound": mapping(info.get("bound")),
        "settings": _told(info.get("settings")),
        "versions": _told(info.get("versions")),
        "failures": list(info.get("failures") or ()),
        "accounts": run.accounts,
        "members": members,
        "without_images": list(info.get("without_images") or ()),
        "missing": _missing(run, summary.has_truth),
        "methods": [*cited_methods(attacks), *named(member.member for member in members)],
    }


def _leakage_context(
    run: _Run, rows: list[Row], summary: Summary, chosen: list[Row]
) -> dict[str, Any]:
    """Return what the tables and charts show."""
    by_client = worst_of(by_group(rows, "client"), MAX_GROUPS)
    by_round = by_group(rows, "round")
    worst = sorted(rows, key=closeness, reverse=True)[:MAX_ROWS]
    return {
        "summary": summary,
        "matrix": round_client_matrix(rows, by_client, worst_of(by_round, MAX_GROUPS)),
        "by_client": by_client,
        "trained": len(run.rounds) > 0,
        "by_round": _with_training(by_round, records(run.rounds)),
        "charts": _charts(run, by_client, chosen),
        "choices": {
            name: sorted({row[name] for row in worst if row[name] is not None})
            for name in ("round", "client", "attack")
        },
        "worst": worst,
        "all_rows": len(rows),
        "limit": MAX_ROWS,
    }


def _pictures_context(run: _Run, worst: Row, chosen: list[Row]) -> dict[str, Any]:
    """Return pictures, none of a sensitive run."""
    cards = [] if run.sensitive else gallery.cards(run.folder, chosen)
    mean = None if run.sensitive else pictures.read(run.folder.mean_xray())
    return {
        "cards": cards,
        "worst_card": next((card for card in cards if card.row == worst), None),
        "strips": [] if run.sensitive else gallery.strips(run.folder, chosen),
        "mean_xray": "" if mean is None else pictures.thumbnail(mean),
        "colour_bar": pictures.colour_bar(),
        "error_scale": pictures.ERROR_SCALE,
    }


def _comparison_of(path: Path) -> str:
    """Return the way to the comparison that a run is part of; empty where there is none."""
    place = path.absolute()
    if place.parents[1].name != "runs":
        return ""
    page = place.parents[2] / "comparison.html"
    return quote(Path(os.path.relpath(page, place)).as_posix()) if page.exists() else ""


def _with_training(groups: list[Group], training: list[Row]) -> list[tuple[int, Row, Group | None]]:
    """Return (round, row of rounds.csv, what leaked) of each round that has one or the other."""
    trained = {row["round"]: row for row in training}
    leaked = {group.key: group for group in groups}
    return [(n, trained.get(n, {}), leaked.get(n)) for n in sorted(trained.keys() | leaked.keys())]


def _charts(run: _Run, by_client: WorstGroups, chosen: list[Row]) -> list[tuple[str, str, Markup]]:
    """Return (title, text for those who do not see it, SVG) of each chart that can be drawn."""
    leakage = unmasked(run.leakage)
    close = [(CLOSE_PSNR, f"{CLOSE_PSNR:g} dB")]
    clients = [group.key for group in by_client.groups]
    some = f", the worst {len(clients)} of {by_client.of}" if len(clients) < by_client.of else ""
    first = chosen[0] if chosen else None
    drawn = [
        (
            "Likeness by round",
            f"PSNR of reconstructions by round. {_in_words(leakage, 'round')}",
            charts.by_round(leakage, "psnr", "PSNR, dB", close),
        ),
        (
            f"Likeness by client{some}",
            f"PSNR of reconstructions by client. {_in_words(leakage, 'client')}",
            charts.by_client(leakage, clients, "psnr", "PSNR, dB", close),
        ),
        (
            "Beyond a public X-ray",
            "RDLV of reconstructions by round, with each attack’s mean",
            charts.by_round(leakage, "rdlv", "RDLV", [(0.0, "mean public X-ray")]),
        ),
        ("The model’s training", "Loss and AUC by round", charts.training(run.rounds)),
    ]
    if first is not None:
        drawn.append(
            (
                "How the worst one was found",
                f"The attacker’s own score by iteration: {first['client']}, round "
                f"{first['round']}, {first['attack']}; lower is a better fit to the update",
                charts.attack_progress_chart(gallery.history(run.folder, first)),
            )
        )
    # The SVG is made by matplotlib, which escapes the names in it.
    return [(title, text, Markup(svg)) for title, text, svg in drawn if svg]


def _in_words(leakage: pd.DataFrame, column: str) -> str:
    """Return the mean PSNR by round or client in words, of the first dozen."""
    means = leakage.dropna(subset=["psnr"]).groupby(column)["psnr"].mean()
    told = [f"{column} {key}: {format_number(float(value), 1)} dB" for key, value in means.items()]
    more = f"; and {len(told) - 12} more" if len(told) > 12 else ""
    return f"Means: {'; '.join(told[:12])}{more}." if told else ""


_EXPECTED = (
    *("mse", "psnr", "ssim", "lpips", "fft2d", "rdlv"),
    *("bound_psnr", "prior_psnr", "null_psnr", "rank"),
)


def _missing(run: _Run, has_truth: bool) -> list[tuple[str, str, str]]:
    """Return (column, how many of its values, why) for every column with empty cells."""
    done = run.leakage[run.leakage["status"] == "ok"]
    columns = [(name, done[name]) for name in _EXPECTED]
    columns += [(name, run.rounds[name]) for name in run.rounds.columns]
    found = []
    for name, values in columns:
        empty = int(values.isna().sum())
        if not empty:
            continue
        if name in _EXPECTED and not has_truth:
            reason = "no truth in this run, as for a real server"
        elif empty < len(values):
            reason = "no usable reconstruction, or no value in that round"
        else:
            reason = "no reason recorded"
        found.append((name, f"{empty} of {len(values)}", str(run.missing.get(name, reason))))
    return found


def _told(entries: object) -> list[tuple[str, str]]:
    """Return (dotted key, text) for every entry of nested tables."""
    return [(key, in_words(value)) for key, value in flattened(mapping(entries)).items()]
