"""The report of a run: one self-contained HTML page made from the run's folder alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from adversary.common.files import atomic_write
from adversary.report import charts, flags, gallery, pictures
from adversary.report.groups import Group, WorstGroups, by_group, round_client_matrix, worst_of
from adversary.report.identified import lines, strongest
from adversary.report.leakage_rows import Row, closeness, records, with_levels
from adversary.report.members import shares
from adversary.report.redaction import is_sensitive, pseudonyms, redact
from adversary.report.references import CITATIONS, cited_methods, named
from adversary.report.summary import AVERAGE, summarise
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
    info, leakage, rounds = folder.info(), folder.leakage(), folder.rounds()
    hidden = is_sensitive(info)
    missing = info.get("missing")
    if hidden:
        info = redact(info, folder.path.absolute().name)
        leakage = leakage.assign(truth=pseudonyms(leakage["truth"]))
    rows = with_levels(leakage)
    counted = unmasked(leakage)
    identified = lines(folder.identification())
    summary = summarise(with_levels(counted), info, strongest(identified))
    by_client = worst_of(by_group(rows, "client"), MAX_GROUPS)
    by_round = by_group(rows, "round")
    chosen = gallery.select_cards(rows)
    worst = sorted(rows, key=closeness, reverse=True)[:MAX_ROWS]
    accounts = _accounts(folder.accounts())
    members = shares(folder.members(), leakage)
    page = template("report.html").render(
        title=str(info.get("title") or folder.path.name),
        script=Markup(FILTERS),
        info=info,
        sensitive=hidden,
        data=_mapping(info.get("data")),
        defence=_mapping(info.get("defence")),
        oracles=list(info.get("oracles") or ()),
        knowledge=summarize_threat(info),
        aggregate=_mapping(info.get("threat")).get("view") == "aggregate",
        bound=_mapping(info.get("bound")),
        settings=_flatten(_mapping(info.get("settings"))),
        versions=_flatten(_mapping(info.get("versions"))),
        failures=list(info.get("failures") or ()),
        summary=summary,
        named=identified,
        flags_page=flags.PAGE,
        average=AVERAGE,
        null_margin=NULL_MARGIN,
        members=members,
        matrix=round_client_matrix(rows, by_client, worst_of(by_round, MAX_GROUPS)),
        by_client=by_client,
        trained=len(rounds) > 0,
        by_round=_with_training(by_round, records(rounds)),
        charts=_charts(folder, counted, rounds, by_client, chosen),
        cards=[] if hidden else gallery.cards(folder, chosen),
        strips=[] if hidden else gallery.strips(folder, chosen),
        choices={
            name: sorted({row[name] for row in worst if row[name] is not None})
            for name in ("round", "client", "attack")
        },
        worst=worst,
        all_rows=len(rows),
        limit=MAX_ROWS,
        accounts=accounts,
        without_images=list(info.get("without_images") or ()),
        missing=_missing(
            leakage, rounds, {} if hidden else _mapping(missing), summary.has_truth
        ),
        methods=[
            *cited_methods({row["attack"] for row in rows} - {ALL_ATTACKS}),
            *named(member.member for member in members),
        ],
        sources=CITATIONS,
        levels=sorted(Severity, reverse=True),
        colour_bar=pictures.colour_bar(),
        error_scale=pictures.ERROR_SCALE,
    )  # fmt: skip
    path = folder.path / "report.html"
    with one_line_io_errors(path), atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")
    return path


def _accounts(accounts: pd.DataFrame) -> list[Row]:
    """Return each client's last account, the largest loss first."""
    last = accounts.sort_values("round").drop_duplicates("client", keep="last")
    return records(last.sort_values(["epsilon", "client"], ascending=[False, True]))


def _with_training(groups: list[Group], training: list[Row]) -> list[tuple[int, Row, Group | None]]:
    """Return (round, row of rounds.csv, what leaked) of each round that has one or the other."""
    trained = {row["round"]: row for row in training}
    leaked = {group.key: group for group in groups}
    return [(n, trained.get(n, {}), leaked.get(n)) for n in sorted(trained.keys() | leaked.keys())]


def _charts(
    folder: RunFolder,
    leakage: pd.DataFrame,
    rounds: pd.DataFrame,
    by_client: WorstGroups,
    chosen: list[Row],
) -> list[tuple[str, str, Markup]]:
    """Return (title, text for those who do not see it, SVG) of each chart that can be drawn."""
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
        ("The model’s training", "Loss and AUC by round", charts.training(rounds)),
    ]
    if first is not None:
        drawn.append(
            (
                "How the worst one was found",
                f"The attacker’s own score by iteration: {first['client']}, round "
                f"{first['round']}, {first['attack']}; lower is a better fit to the update",
                charts.attack_progress_chart(gallery.history(folder, first)),
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


def _missing(
    leakage: pd.DataFrame, rounds: pd.DataFrame, reasons: Mapping[str, Any], has_truth: bool
) -> list[tuple[str, str, str]]:
    """Return (column, how many of its values, why) for every column with empty cells."""
    done = leakage[leakage["status"] == "ok"]
    columns = [(name, done[name]) for name in _EXPECTED]
    columns += [(name, rounds[name]) for name in rounds.columns]
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
        found.append((name, f"{empty} of {len(values)}", str(reasons.get(name, reason))))
    return found


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _flatten(nested: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return (dotted key, text) for every entry of nested tables."""
    flat: list[tuple[str, str]] = []
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat += _flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            flat.append((f"{prefix}{key}", ", ".join(map(str, value)) or "none"))
        else:
            flat.append((f"{prefix}{key}", "–" if value is None or value == "" else str(value)))
    return flat
