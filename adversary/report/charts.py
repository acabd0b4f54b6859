"""Charts of a run as inline SVG."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Collection, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

MANY = 400
"""Images from which a chart sums up: a dot each would make the page large and the chart dark."""

_COLOURS = ("#1f5a96", "#b3431e", "#2e7d4f", "#7a4a9c", "#8a6d00", "#5c6670")
_MARKERS = "osD^vP"
_STYLE: Any = {  # typed by matplotlib as one literal a key
    "svg.fonttype": "none",  # text stays text: small files, and readers can find it
    "svg.hashsalt": "leakage report",  # the same data give the same file
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#5c6670",
    "axes.grid": True,
    "grid.color": "#e3e6ea",
}


def by_round(
    leakage: pd.DataFrame, column: str, label: str, marks: Sequence[tuple[float, str]] = ()
) -> str:
    """Return a chart of one metric by round: a line for each attack's mean, and a dot an image.

    Beyond :data:`MANY` images the dots become a band from the least to the most.

    Parameters
    ----------
    leakage : DataFrame
        As :meth:`adversary.report.run_folder.RunFolder.leakage` gives it.
    column, label : str
        The metric and the words for its axis.
    marks : sequence of (float, str)
        Levels drawn as dashed lines, with their names.

    Returns
    -------
    str
        SVG without a prolog; empty where there is no finite value.
    """
    known = leakage[["round", "attack", column]].replace([float("inf")], pd.NA).dropna()
    if known.empty:
        return ""
    with mpl.rc_context(_STYLE):
        figure = _figure()
        axes = figure.subplots()
        for value, name in marks:
            axes.axhline(value, color="#3d454d", linestyle="--", linewidth=1, label=name)
        for number, (attack, rows) in enumerate(known.groupby("attack", sort=True)):
            colour, marker = _COLOURS[number % 6], _MARKERS[number % 6]
            rounds, values = rows["round"].astype(float), rows[column].astype(float)
            shift = 0.06 * (number - (known["attack"].nunique() - 1) / 2)
            by = values.groupby(rounds)
            mean = by.mean()
            if len(known) > MANY:
                axes.fill_between(mean.index, by.min(), by.max(), color=colour, alpha=0.2)
            else:
                axes.plot(rounds + shift, values, marker, color=colour, alpha=0.35, markersize=5)
            axes.plot(
                mean.index + shift, mean, color=colour, marker=marker, linewidth=2,
                label=_short(str(attack)),
            )  # fmt: skip
        axes.set_ylabel(label)
        _count_rounds(axes)
        _legend(axes)
        return _svg(figure, column)


def by_client(
    leakage: pd.DataFrame,
    clients: Sequence[str],
    column: str,
    label: str,
    marks: Sequence[tuple[float, str]] = (),
) -> str:
    """Return a chart of one metric by client: a bar from the least to the most, a dot the mean.

    Parameters
    ----------
    leakage, column, label, marks
        As for :func:`by_round`.
    clients : sequence of str
        Those to show, from above; others are left out.

    Returns
    -------
    str
        SVG without a prolog; empty where there is no finite value.
    """
    known = leakage[["client", "attack", column]].replace([float("inf")], pd.NA).dropna()
    known = known[known["client"].isin(list(clients))]
    if known.empty:
        return ""
    places = {name: place for place, name in enumerate(clients)}
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(5.2, max(3.3, 1.1 + 0.24 * len(places))), layout="constrained")
        axes = figure.subplots()
        for value, name in marks:
            axes.axvline(value, color="#3d454d", linestyle="--", linewidth=1, label=name)
        attacks = known["attack"].nunique()
        for number, (attack, rows) in enumerate(known.groupby("attack", sort=True)):
            by = rows[column].astype(float).groupby(rows["client"].astype(str))
            heights = [
                places[str(name)] + 0.6 * ((number + 0.5) / attacks - 0.5) for name in by.groups
            ]
            colour, mean = _COLOURS[number % 6], by.mean()
            axes.hlines(heights, by.min(), by.max(), color=colour, linewidth=2, alpha=0.5)
            axes.plot(
                mean, heights, _MARKERS[number % 6], color=colour, markersize=6,
                label=_short(str(attack)),
            )  # fmt: skip
        axes.set_yticks(list(places.values()), [_short(name) for name in places])
        for text in axes.get_yticklabels():
            text.set_parse_math(False)
        axes.set_ylim(len(places) - 0.5, -0.5)
        axes.set_xlabel(label)
        _legend(axes)
        return _svg(figure, f"client-{column}")


def process(history: pd.DataFrame) -> str:
    """Return a chart of an attack's own score by iteration, a line a restart; empty without any.

    Parameters
    ----------
    history : DataFrame
        With ``restart``, ``iteration`` and ``score``.
    """
    known = history.replace([float("inf")], pd.NA).dropna().astype(float)
    if known.empty:
        return ""
    with mpl.rc_context(_STYLE):
        figure = _figure()
        axes = figure.subplots()
        for number, (_, steps) in enumerate(known.groupby("restart")):
            some = steps.iloc[:: -(-len(steps) // 200)]
            axes.plot(some["iteration"], some["score"], color=_COLOURS[number % 6], linewidth=2)
        if known["score"].min() > 0:
            axes.set_yscale("log")
        axes.set_xlabel("iteration")
        axes.set_ylabel("own score")
        return _svg(figure, "process")


def training(rounds: pd.DataFrame) -> str:
    """Return a chart of the global model's loss and AUC by round; empty where there is none."""
    known = rounds.dropna(subset=["round"])
    if known[["loss", "auc"]].isna().all(axis=None):
        return ""
    with mpl.rc_context(_STYLE):
        figure = _figure()
        above, below = figure.subplots(2, 1, sharex=True)
        for axes, column, name in ((above, "loss", "loss"), (below, "auc", "AUC")):
            line = known[["round", column]].dropna().astype(float)
            axes.plot(line["round"], line[column], color=_COLOURS[0], marker="o", linewidth=2)
            axes.set_ylabel(name)
        below.set_ylim(-0.05, 1.05)
        _count_rounds(below)
        return _svg(figure, "training")


def frontier(
    points: Sequence[tuple[str, float, float, float | None, float | None]],
    front: Collection[str],
    mark: tuple[float, str],
) -> str:
    """Return a chart of leakage against utility: a dot a setting, numbered in their order.

    Parameters
    ----------
    points : sequence of (name, AUC, PSNR, spread of AUC, spread of PSNR)
        One a setting; PSNR in dB. Those that are not finite keep their number, and are not drawn.
    front : collection of str
        Names on the Pareto front, drawn filled and joined.
    mark : (float, str)
        A level of PSNR drawn as a dashed line, with its name.

    Returns
    -------
    str
        SVG without a prolog; empty where there is nothing to draw.
    """
    drawn = [
        (number, *point)
        for number, point in enumerate(points, 1)
        if math.isfinite(point[1]) and math.isfinite(point[2])
    ]
    if not drawn:
        return ""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 4.4), layout="constrained")
        axes = figure.subplots()
        axes.axhline(mark[0], color="#3d454d", linestyle="--", linewidth=1, label=mark[1])
        best = sorted((auc, psnr) for _, name, auc, psnr, _, _ in drawn if name in front)
        axes.plot(
            *zip(*best, strict=True), color=_COLOURS[2], linewidth=2, zorder=1, label="Pareto front"
        )
        for number, name, auc, psnr, auc_spread, psnr_spread in drawn:
            on = name in front
            axes.errorbar(
                auc, psnr, xerr=auc_spread, yerr=psnr_spread, fmt="o", markersize=9,
                color=_COLOURS[2] if on else _COLOURS[0], elinewidth=1, alpha=0.9,
                markerfacecolor=_COLOURS[2] if on else "white", label=f"setting {number}",
            )  # fmt: skip
        axes.set_xlabel("AUC of the model (higher is better)")
        axes.set_ylabel("leakage: PSNR, dB (lower is better)")
        axes.margins(0.08, 0.1)
        figure.draw_without_rendering()  # places the axes, so that distances are known
        _number(axes, [(number, auc, psnr) for number, _, auc, psnr, _, _ in drawn])
        handles, names = axes.get_legend_handles_labels()
        axes.legend(handles[:2], names[:2], frameon=False, fontsize=10, ncols=2,
                    loc="lower left", bbox_to_anchor=(0, 1))  # fmt: skip
        return _svg(figure, "frontier")


def _number(axes: Axes, points: Sequence[tuple[int, float, float]]) -> None:
    """Write each point's number beside it, on the side that is least crowded."""
    centres = axes.transData.transform([(x, y) for _, x, y in points])
    taken = list(centres)
    scale = axes.figure.get_dpi() / 72  # pixels a point
    for (number, x, y), centre in zip(points, centres, strict=True):
        others = [place for place in taken if place is not centre]
        sides = [13 * np.array([math.cos(a), math.sin(a)]) for a in np.arange(0, 6.28, 0.785)]
        side = min(
            sides,
            key=lambda s: sum(
                1 / (1 + float(np.sum((centre + scale * s - o) ** 2))) for o in others
            ),
        )
        taken.append(centre + scale * side)
        axes.annotate(
            str(number), (x, y), xytext=tuple(side), textcoords="offset points",
            ha="center", va="center", fontsize=10,
        )  # fmt: skip


def _figure() -> Figure:
    return Figure(figsize=(5.2, 3.3), layout="constrained")


def _count_rounds(axes: Axes) -> None:
    axes.set_xlabel("round")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _short(name: str) -> str:
    return name if len(name) <= 20 else f"{name[:19]}…"


def _legend(axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    legend = axes.legend(
        handles,
        labels,
        frameon=False,
        fontsize=10,
        ncols=3,
        loc="lower left",
        bbox_to_anchor=(0, 1),
    )
    for text in legend.get_texts():
        text.set_parse_math(False)  # a "$" in a name is a "$"


def _svg(figure: Figure, name: str) -> str:
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # Text stays text: the reader's fonts draw it, and may have what matplotlib's has not.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    # Several charts share one page: matplotlib's ids must differ from chart to chart.
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg[svg.index("<svg") :])
