"""The report of a run: one self-contained HTML page made from the run's folder alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from adversary.report import charts, pictures
from adversary.report.files import replacing
from adversary.report.page import PAGE
from adversary.report.run_folder import RunFolder, unmasked, writing
from adversary.report.verdict import CLOSE_PSNR, Level, level, worst

MAX_GRIDS = 150
"""Grids embedded in one page, worst first; of others the page names the file."""

_IMAGES_A_GRID = 8

Row = dict[str, Any]


@dataclass(frozen=True)
class Panel:
    """One image of a grid: its row of leakage.csv and its pictures as data URIs or empty."""

    row: Row
    truth: str
    reconstruction: str
    error: str
    bound: str


@dataclass(frozen=True)
class Grid:
    """What one attack made of one client's update."""

    client: str
    attack: str
    level: Level
    best: Row
    panels: list[Panel]
    images: int
    file: str
    process: str


@dataclass(frozen=True)
class ClientVerdict:
    """What all attacks together learnt from one client's update."""

    client: str
    level: Level
    best: Row


@dataclass(frozen=True)
class Round:
    """One section of the report."""

    number: int
    training: Row
    verdicts: list[ClientVerdict]
    grids: list[Grid]
    rows: list[Row]


@dataclass(frozen=True)
class Summary:
    """What the first screen says."""

    level: Level
    worst: Row
    images: int
    clients_seen: int
    clients: int
    rounds_seen: int
    rounds: int
    reidentified: float | None
    chance: float | None
    candidates: int | None
    mean_psnr: float | None
    mean_rdlv: float | None
    has_truth: bool
    failed: int


def render(folder: RunFolder) -> Path:
    """Write report.html into the folder of a run, finished or not, and return its path.

    Everything is read from the folder, so the page can be made again at any time.

    Raises
    ------
    adversary.report.run_folder.RunFolderError
        If the folder cannot be read, or the page not be written.
    """
    info, leakage, rounds = folder.info(), folder.leakage(), folder.rounds()
    rows = _levelled(leakage)
    counted = unmasked(leakage)
    summary = _summarise(_levelled(counted), info)
    page = template(PAGE).render(
        title=str(info.get("title") or folder.path.name),
        info=info,
        data=_mapping(info.get("data")),
        oracles=list(info.get("oracles") or ()),
        threat=_flatten(_mapping(info.get("threat"))),
        aggregate=_mapping(info.get("threat")).get("view") == "aggregate",
        bound=_mapping(info.get("bound")),
        settings=_flatten(_mapping(info.get("settings"))),
        versions=_flatten(_mapping(info.get("versions"))),
        failures=list(info.get("failures") or ()),
        summary=summary,
        matrix=_matrix(rows),
        charts=_charts(counted, rounds),
        accounts=_accounts(folder.accounts()),
        without_images=list(info.get("without_images") or ()),
        rounds=_rounds(folder, rows, _records(rounds)),
        missing=_missing(leakage, rounds, _mapping(info.get("missing")), summary.has_truth),
        levels=sorted(Level, reverse=True),
        colour_bar=pictures.colour_bar(),
        error_scale=pictures.ERROR_SCALE,
    )  # fmt: skip
    path = folder.path / "report.html"
    with writing(path), replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")
    return path


@lru_cache
def template(page: str) -> Template:
    """Return a page, compiled once; what it shows is escaped."""
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = figure
    environment.filters["epsilon"] = epsilon
    environment.filters["percent"] = lambda share: "–" if share is None else f"{share:.0%}"
    return environment.from_string(page)


def figure(value: float | None, digits: int = 2) -> str:
    """Return a figure for reading: a dash where missing, small ones in powers of ten."""
    if value is None:
        return "–"
    if isinstance(value, float) and not math.isfinite(value):
        return "exact" if value > 0 else "–"
    if value and abs(value) < 0.5 * 10.0**-digits:
        return f"{value:.1e}"
    return f"{value:.{digits}f}".replace("-", "−")


def epsilon(value: float | None) -> str:
    """Return a privacy loss for reading; it is infinite without noise."""
    if value is None:
        return "–"
    return "∞" if math.isinf(value) else f"{value:.3g}"


def _records(frame: pd.DataFrame) -> list[Row]:
    """Return the rows as plain Python values, None where missing."""
    plain = frame.astype(object).where(frame.notna(), None)
    return [{str(k): v for k, v in row.items()} for row in plain.to_dict("records")]


def _levelled(frame: pd.DataFrame) -> list[Row]:
    return [{**row, "level": _level(row)} for row in _records(frame)]


def _level(row: Row) -> Level:
    return level(row["psnr"], row["rdlv"], row["reidentified"])


def _closeness(row: Row) -> tuple[Level, float, float]:
    """Order rows by how much they give away; without truth, by the attacker's own score."""
    score = math.inf if row["score"] is None else row["score"]
    return row["level"], -math.inf if row["psnr"] is None else row["psnr"], -score


def _summarise(rows: list[Row], info: Mapping[str, Any]) -> Summary:
    done = [row for row in rows if row["status"] == "ok"]
    seen = [row for row in done if row["level"] >= Level.IDENTIFIED]
    known = [row["reidentified"] for row in done if row["reidentified"] is not None]
    candidates = info.get("candidates")
    candidates = candidates if isinstance(candidates, int) and candidates > 0 else None
    return Summary(
        level=worst(row["level"] for row in done),
        worst=max(done, key=_closeness, default={}),
        images=len(done),
        clients_seen=len({row["client"] for row in seen}),
        clients=len({row["client"] for row in rows}),
        rounds_seen=len({row["round"] for row in seen}),
        rounds=len({row["round"] for row in rows}),
        reidentified=sum(known) / len(known) if known else None,
        chance=1 / candidates if candidates else None,
        candidates=candidates,
        mean_psnr=_mean(row["psnr"] for row in done),
        mean_rdlv=_mean(row["rdlv"] for row in done),
        has_truth=any(row["truth"] is not None for row in done),
        failed=sum(row["status"] != "ok" for row in rows),
    )


def _mean(values: Iterator[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _verdicts(rows: list[Row]) -> list[ClientVerdict]:
    """Return one verdict a client, by name; the best reconstruction counts."""
    verdicts = []
    for client in sorted({row["client"] for row in rows}):
        best = max((row for row in rows if row["client"] == client), key=_closeness)
        verdicts.append(ClientVerdict(client, best["level"], best))
    return verdicts


def _matrix(rows: list[Row]) -> dict[str, dict[int, ClientVerdict]]:
    """Return the verdicts by client and round."""
    matrix: dict[str, dict[int, ClientVerdict]] = {}
    for number in sorted({row["round"] for row in rows}):
        for verdict in _verdicts([row for row in rows if row["round"] == number]):
            matrix.setdefault(verdict.client, {})[number] = verdict
    return dict(sorted(matrix.items()))


def _accounts(accounts: pd.DataFrame) -> list[Row]:
    """Return each client's last account, by name."""
    last = accounts.sort_values("round").drop_duplicates("client", keep="last")
    return _records(last.sort_values("client"))


def _charts(leakage: pd.DataFrame, rounds: pd.DataFrame) -> list[tuple[str, str, Markup]]:
    """Return (title, text for those who do not see it, SVG) of each chart that can be drawn."""
    drawn = (
        (
            "Likeness by round",
            "PSNR of every reconstruction by round, with each attack's mean",
            charts.by_round(leakage, "psnr", "PSNR, dB", [(CLOSE_PSNR, f"{CLOSE_PSNR:g} dB")]),
        ),
        (
            "Beyond a public X-ray",
            "RDLV of every reconstruction by round, with each attack's mean",
            charts.by_round(leakage, "rdlv", "RDLV", [(0.0, "mean public X-ray")]),
        ),
        ("The model's training", "Loss and AUC by round", charts.training(rounds)),
    )
    # The SVG is made by matplotlib, which escapes the names in it.
    return [(title, text, Markup(svg)) for title, text, svg in drawn if svg]


def _rounds(folder: RunFolder, rows: list[Row], training: list[Row]) -> list[Round]:
    by_number = {row["round"]: row for row in training}
    groups: dict[tuple[int, str, str], list[Row]] = {}
    for row in rows:
        if row["status"] == "ok":
            groups.setdefault((row["round"], row["client"], row["attack"]), []).append(row)
    order = sorted(groups, key=lambda key: max(map(_closeness, groups[key])), reverse=True)
    embedded = set(order[:MAX_GRIDS])
    sections = []
    for number in sorted({row["round"] for row in rows} | by_number.keys()):
        here = [row for row in rows if row["round"] == number]
        sections.append(
            Round(
                number=number,
                training=by_number.get(number, {}),
                verdicts=_verdicts(here),
                grids=[
                    _grid(folder, key, groups[key], key in embedded)
                    for key in order
                    if key[0] == number
                ],
                rows=here,
            )
        )
    return sections


def _grid(folder: RunFolder, key: tuple[int, str, str], rows: list[Row], embed: bool) -> Grid:
    number, client, attack = key
    place = folder.images(number, client, attack)
    process = folder.process(number, client, attack)
    ordered = sorted(rows, key=_closeness, reverse=True)
    shown = ordered[:_IMAGES_A_GRID] if embed else []
    return Grid(
        client=client,
        attack=attack,
        level=worst(row["level"] for row in rows),
        best=ordered[0],
        panels=[_panel(place, row) for row in shown],
        images=len(rows),
        file=(place / "grid.png").relative_to(folder.path).as_posix(),
        process=process.relative_to(folder.path).as_posix() if process.is_dir() else "",
    )


def _panel(place: Path, row: Row) -> Panel:
    truth, found, bound = (
        pictures.read(pictures.picture(place, kind, row["image"]))
        for kind in ("truth", "reconstruction", "bound")
    )
    error = None
    if truth is not None and found is not None and truth.shape == found.shape:
        error = pictures.error_map(truth, found)
    thumbnails = (
        "" if image is None else pictures.thumbnail(image) for image in (truth, found, error, bound)
    )
    return Panel(row, *thumbnails)


_EXPECTED = ("mse", "psnr", "ssim", "lpips", "fft2d", "rdlv", "bound_psnr", "rank")


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
