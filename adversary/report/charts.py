"""Charts of a run as inline SVG."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

MANY = 400
"""Images from which a chart sums up: a dot each would make the page large and the chart dark."""

COLOURS = ("#1f5a96", "#b3431e", "#2e7d4f", "#7a4a9c", "#8a6d00", "#5c6670")
_MARKERS = "osD^vP"
STYLE: Any = {  # typed by matplotlib as one literal a key
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
        As :meth:`adversary.storage.run_folder.RunFolder.leakage` gives it.
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
    with mpl.rc_context(STYLE):
        figure = _figure()
        axes = figure.subplots()
        for value, name in marks:
            axes.axhline(value, color="#3d454d", linestyle="--", linewidth=1, label=name)
        for number, (attack, rows) in enumerate(known.groupby("attack", sort=True)):
            colour, marker = COLOURS[number % 6], _MARKERS[number % 6]
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
                label=shortened(str(attack)),
            )  # fmt: skip
        axes.set_ylabel(label)
        _count_rounds(axes)
        draw_legend(axes)
        return as_svg(figure, column)


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
    with mpl.rc_context(STYLE):
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
            colour, mean = COLOURS[number % 6], by.mean()
            axes.hlines(heights, by.min(), by.max(), color=colour, linewidth=2, alpha=0.5)
            axes.plot(
                mean, heights, _MARKERS[number % 6], color=colour, markersize=6,
                label=shortened(str(attack)),
            )  # fmt: skip
        axes.set_yticks(list(places.values()), [shortened(name) for name in places])
        for text in axes.get_yticklabels():
            text.set_parse_math(False)
        axes.set_ylim(len(places) - 0.5, -0.5)
        axes.set_xlabel(label)
        draw_legend(axes)
        return as_svg(figure, f"client-{column}")


def attack_progress_chart(history: pd.DataFrame) -> str:
    """Return a chart of an attack's own score by iteration, a line a restart; empty without any.

    Parameters
    ----------
    history : DataFrame
        With ``restart``, ``iteration`` and ``score``.
    """
    known = history.replace([float("inf")], pd.NA).dropna().astype(float)
    if known.empty:
        return ""
    with mpl.rc_context(STYLE):
        figure = _figure()
        axes = figure.subplots()
        for number, (_, steps) in enumerate(known.groupby("restart")):
            some = steps.iloc[:: -(-len(steps) // 200)]
            axes.plot(some["iteration"], some["score"], color=COLOURS[number % 6], linewidth=2)
        if known["score"].min() > 0:
            axes.set_yscale("log")
        axes.set_xlabel("iteration")
        axes.set_ylabel("own score")
        return as_svg(figure, "process")


def training(rounds: pd.DataFrame) -> str:
    """Return a chart of the global model's loss and AUC by round; empty where there is none."""
    known = rounds.dropna(subset=["round"])
    if known[["loss", "auc"]].isna().all(axis=None):
        return ""
    with mpl.rc_context(STYLE):
        figure = _figure()
        above, below = figure.subplots(2, 1, sharex=True)
        for axes, column, name in ((above, "loss", "loss"), (below, "auc", "AUC")):
            line = known[["round", column]].dropna().astype(float)
            axes.plot(line["round"], line[column], color=COLOURS[0], marker="o", linewidth=2)
            axes.set_ylabel(name)
        below.set_ylim(-0.05, 1.05)
        _count_rounds(below)
        return as_svg(figure, "training")


@dataclass(frozen=True, kw_only=True)
class Span:
    """A setting in the chart of leakage against utility.

    Parameters
    ----------
    name : str
        Its name.
    auc : float
        AUC of its model.
    reached : float
        PSNR in dB of the worst image, a lower limit of the leak; may be infinite.
    limit : float or None
        Upper limit in dB; None where it is not known.
    kind : str
        A key of :data:`KINDS`; others are not drawn.
    auc_std : float or None
        Spread of the AUC.
    """

    name: str
    auc: float
    reached: float
    limit: float | None
    kind: str
    auc_std: float | None = None


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How settings of one standing are drawn: words, colour, marker and how it is filled."""

    words: str
    colour: str
    marker: str
    fill: Literal["full", "left", "none"]


KINDS = {
    "leaks": Kind(words="leaks: patient visible", colour="#a31621", marker="o", fill="full"),
    "partly": Kind(words="leaks in part", colour="#b3431e", marker="o", fill="left"),
    "open": Kind(words="open: not settled", colour="#4a5563", marker="o", fill="none"),
    "protects": Kind(words="protected", colour="#1d6b3c", marker="s", fill="full"),
}
"""Standings of settings, worst first. Open ones are hollow: there is nothing to rely on."""

_DECIDING = (10.0, 40.0)
"""dB between which verdicts differ; the axis is compressed beyond."""

_TOP = 160.0
"""dB at which the axis ends: more is a copy to the last digit of float32."""

_NARROWEST = 0.06
"""AUC that the axis shows at least: differences far below that are none."""

_BESIDE = 0.03
"""Least distance between bars, as a share of the axis."""


def privacy_utility_chart(
    spans: Sequence[Span], front: Collection[str], marks: Sequence[tuple[float, str]] = ()
) -> str:
    """Return a chart of leakage against utility: a bar a setting, with its name.

    A bar goes from what an attack reached to the upper limit, and to the end of the axis, dashed,
    where none is known. Settings of the same AUC are drawn side by side.

    Parameters
    ----------
    spans : sequence of Span
        One a setting. Those without AUC or PSNR are not drawn.
    front : collection of str
        Names on the Pareto front, whose upper limits are joined.
    marks : sequence of (float, str)
        Levels of PSNR in dB drawn as dashed lines, with their names.

    Returns
    -------
    str
        SVG without a prolog; empty where there is nothing to draw.
    """
    drawn = [
        span
        for span in spans
        if span.kind in KINDS and math.isfinite(span.auc) and not math.isnan(span.reached)
    ]
    if not drawn:
        return ""
    places = _apart([span.auc for span in drawn])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.6, 4.8), layout="constrained")
        axes = figure.subplots()
        axes.set_yscale("function", functions=(_squeeze, _stretch))
        axes.axhspan(_DECIDING[1], 2 * _TOP, color="#f0f2f5", zorder=0)
        highest = max((value for value, _ in marks), default=0.0)
        for value, name in marks:
            axes.axhline(value, color="#3d454d", linestyle="--", linewidth=1, zorder=1)
            above = value == highest  # the others' names stand below their lines
            axes.annotate(
                name, (1, value), xycoords=("axes fraction", "data"), fontsize=9, color="#3d454d",
                xytext=(4, 1 if above else -1), va="bottom" if above else "top",
                textcoords="offset points", annotation_clip=False,
            )  # fmt: skip
        best = sorted(
            (place, min(span.limit, _TOP))
            for place, span in zip(places, drawn, strict=True)
            if span.name in front and span.limit is not None
        )
        if best:
            axes.plot(
                *zip(*best, strict=True), color=COLOURS[0], linewidth=2, zorder=1,
                label="Pareto front of the upper limits",
            )  # fmt: skip
        for place, span in zip(places, drawn, strict=True):
            _bar(axes, place, span)
        axes.set_xlabel("AUC of the model (higher is better)")
        axes.set_ylabel("PSNR, dB, from attack to bound (lower is better)")
        least = min(span.reached for span in drawn)
        axes.set_ylim(min(_DECIDING[0], least) - 12.0, 1.4 * _TOP)
        ticks = [0, 10, 15, 20, 25, 30, 35, 40, 80, _TOP]
        ticks = [tick for tick in ticks if tick >= axes.get_ylim()[0]]
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        centre = (min(places) + max(places)) / 2
        half = 0.55 * max(max(places) - min(places), _NARROWEST)
        axes.set_xlim(centre - half, centre + half)
        axes.xaxis.set_major_formatter(lambda auc, _: f"{auc:.2f}" if 0 <= auc <= 1 else "")
        figure.draw_without_rendering()  # places the axes, so that distances are known
        points = [
            (shortened(span.name), place, min(span.reached, _TOP))
            for place, span in zip(places, drawn, strict=True)
        ]
        along = [p for x, one in zip(places, drawn, strict=True) for p in _line(one, x)]
        write_names(axes, points, along)
        handles, names = axes.get_legend_handles_labels()
        once = dict(zip(names, handles, strict=True))
        axes.legend(once.values(), once.keys(), frameon=False, fontsize=9, ncols=3,
                    loc="lower left", bbox_to_anchor=(0, 1))  # fmt: skip
        return as_svg(figure, "frontier")


def _ends_of(span: Span) -> tuple[float, float]:
    """Return where a setting's bar begins and ends, in dB."""
    reached = min(span.reached, _TOP)
    return reached, _TOP if span.limit is None else min(max(span.limit, reached), _TOP)


def _line(span: Span, place: float) -> list[tuple[float, float]]:
    """Return points along a bar, on which no name should stand."""
    low, high = _squeeze(np.array(_ends_of(span)))
    return [(place, float(y)) for y in _stretch(np.linspace(low, high, 9)[1:])]


def _bar(axes: Axes, place: float, span: Span) -> None:
    """Draw one setting: its marker at what was reached, its cap at the upper limit."""
    kind = KINDS[span.kind]
    reached, top = _ends_of(span)
    axes.plot(
        [place, place], [reached, top], color=kind.colour, zorder=2,
        linewidth=2 if span.limit is not None else 1,
        linestyle="-" if span.limit is not None else ":",
    )  # fmt: skip
    axes.plot(
        [place], [top], color=kind.colour, zorder=2, markersize=9,
        marker="_" if span.limit is not None else "^", markeredgewidth=2,
    )  # fmt: skip
    axes.errorbar(
        place, reached, xerr=span.auc_std, fmt=kind.marker, markersize=8, color=kind.colour,
        elinewidth=1, fillstyle="left" if kind.fill == "left" else "full", zorder=3,
        markerfacecolor="white" if kind.fill == "none" else kind.colour,
        markerfacecoloralt="white", markeredgewidth=1.5,
        label=kind.words,
    )  # fmt: skip


def _apart(values: Sequence[float]) -> list[float]:
    """Return the values, moved as little as it takes to keep a distance between them.

    Neighbours that are too near become a block around their mean, and blocks that then touch one.
    """
    step = _BESIDE * max(max(values) - min(values), _NARROWEST)
    order = sorted(range(len(values)), key=lambda index: values[index])
    blocks: list[list[int]] = []
    for index in order:
        blocks.append([index])
        while len(blocks) > 1 and (
            _ends(blocks[-1], values, step)[0] - _ends(blocks[-2], values, step)[1] < step
        ):
            last = blocks.pop()
            blocks[-1] += last
    placed = [0.0] * len(values)
    for block in blocks:
        start = _ends(block, values, step)[0]
        for place, index in enumerate(block):
            placed[index] = start + place * step
    return placed


def _ends(block: Sequence[int], values: Sequence[float], step: float) -> tuple[float, float]:
    centre = sum(values[index] for index in block) / len(block)
    half = (len(block) - 1) * step / 2
    return centre - half, centre + half


def along_axis(psnr: float) -> float:
    """Return where a PSNR in dB lies on an axis that is compressed where verdicts do not differ."""
    return float(_squeeze(np.array(psnr)))


def _squeeze(value: np.ndarray) -> np.ndarray:
    """Return PSNR along the axis: in full where verdicts differ, compressed beyond."""
    low, high = _DECIDING
    inside = np.clip(value, low, high)
    return inside + 0.3 * np.minimum(value - low, 0) + 0.06 * np.maximum(value - high, 0)


def _stretch(value: np.ndarray) -> np.ndarray:
    low, high = _DECIDING
    inside = np.clip(value, low, high)
    return inside + np.minimum(value - low, 0) / 0.3 + np.maximum(value - high, 0) / 0.06


def write_names(
    axes: Axes,
    points: Sequence[tuple[str, float, float]],
    others: Sequence[tuple[float, float]] = (),
) -> None:
    """Write each point's name beside it, moved up or down from names that are there already.

    Names stand to the right of points in the left two thirds, and to the left of others. ``others``
    are points of lines, of which names keep away where they can.
    """
    scale = axes.figure.get_dpi() / 72  # pixels a point
    left, right = axes.get_window_extent().x0, axes.get_window_extent().x1
    lines = axes.transData.transform([*others]).reshape(-1, 2)
    taken: list[tuple[float, float, float]] = []  # from, to and height, in pixels
    for text, x, y in points:
        at, height = axes.transData.transform((x, y))
        turned = at > left + 0.66 * (right - left)
        length = scale * (6.2 * len(text) + 9)
        begin, end = (at - length, at) if turned else (at, at + length)
        shift = min(
            np.arange(-66, 67, 11.0),
            key=lambda up: (
                _crowding(begin, end, height + scale * up, scale, taken, lines) + 0.02 * abs(up)
            ),
        )
        taken.append((begin, end, height + scale * shift))
        axes.annotate(
            text, (x, y), xytext=(-9 if turned else 9, shift), textcoords="offset points",
            ha="right" if turned else "left", va="center", fontsize=9, parse_math=False,
            arrowprops={"arrowstyle": "-", "color": "#8a94a0", "linewidth": 0.6}
            if abs(shift) > 11 else None,
        )  # fmt: skip


def _crowding(
    begin: float,
    end: float,
    height: float,
    scale: float,
    taken: Sequence[tuple[float, float, float]],
    lines: np.ndarray,
) -> float:
    """Return how many names and points of lines a name would cover; names count most."""
    names = sum(
        begin < other_end and end > other and abs(height - at) < 10 * scale
        for other, other_end, at in taken
    )
    inside = (lines[:, 0] > begin + 3) & (lines[:, 0] < end - 3)
    return 10 * names + float((inside & (abs(lines[:, 1] - height) < 6 * scale)).sum())


def _figure() -> Figure:
    return Figure(figsize=(5.2, 3.3), layout="constrained")


def _count_rounds(axes: Axes) -> None:
    axes.set_xlabel("round")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def shortened(name: str) -> str:
    """Return a name for a legend."""
    return name if len(name) <= 20 else f"{name[:19]}…"


def draw_legend(axes: Axes) -> None:
    """Draw a legend above the axes."""
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


def as_svg(figure: Figure, name: str) -> str:
    """Return a figure as SVG without a prolog, with ids that begin with ``name``."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # Text stays text: the reader's fonts draw it, and may have what matplotlib's has not.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    # Several charts share one page: matplotlib's ids must differ from chart to chart.
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg[svg.index("<svg") :])
