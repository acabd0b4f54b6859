"""Charts of who can be named: ROC curves with their ceiling, and naming against the model's AUC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from adversary.identification.ceilings import private_power
from adversary.report import charts
from adversary.scoring.identification_scores import ALARMS

LEAST = 1e-3
"""False alarms at which ROC curves begin."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """Scores of one hospital's members (M,) and of others (N,), with its claimed account."""

    name: str
    members: Tensor
    others: Tensor
    account: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class NamedPoint:
    """A setting in the chart of naming: its name, model's AUC, share named, kind of standing."""

    name: str
    auc: float | None
    named: float | None
    kind: str


def rates(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """Return false and true positive rates of all thresholds, from none called to all."""
    members, others = np.sort(curve.members.numpy()), np.sort(curve.others.numpy())
    thresholds = np.concatenate([[np.inf], others[::-1], [-np.inf]])
    false = 1 - np.searchsorted(others, thresholds, side="right") / len(others)
    true = 1 - np.searchsorted(members, thresholds, side="right") / len(members)
    return false, true


def roc_chart(curves: Sequence[Curve]) -> str:
    """Return ROC curves, false alarms on a logarithmic scale; empty without any.

    Dashed beside each is what the privacy account of its hospital allows any attacker.
    """
    if not curves:
        return ""
    with mpl.rc_context(charts.STYLE):
        figure = Figure(figsize=(5.2, 4.0), layout="constrained")
        axes = figure.subplots()
        alarms = np.geomspace(LEAST, 1, 200)
        axes.plot(alarms, alarms, color="#3d454d", linestyle=":", linewidth=1, label="chance")
        axes.axvline(ALARMS, color="#3d454d", linewidth=0.8)
        for number, curve in enumerate(curves):
            colour = charts.COLOURS[number % len(charts.COLOURS)]
            false, true = rates(curve)
            axes.step(
                np.maximum(false, LEAST), true, where="post", color=colour, linewidth=2,
                label=charts.shortened(curve.name),
            )  # fmt: skip
            if curve.account is not None:
                ceiling = [private_power(*curve.account, float(a)) for a in alarms]
                axes.plot(alarms, ceiling, color=colour, linestyle="--", linewidth=1.2)
        axes.set_xscale("log")
        axes.set_xlim(LEAST, 1)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("false alarms, as a share of those who were not in it")
        axes.set_ylabel("named, as a share of those who were")
        charts.draw_legend(axes)
        return charts.as_svg(figure, "roc")


def naming_frontier(points: Sequence[NamedPoint]) -> str:
    """Return a chart of the share named against the model's AUC; empty where nothing is known."""
    drawn = [
        (charts.shortened(point.name), point.auc, point.named, charts.KINDS[point.kind])
        for point in points
        if point.kind in charts.KINDS and point.auc is not None and point.named is not None
    ]
    if not drawn:
        return ""
    with mpl.rc_context(charts.STYLE):
        figure = Figure(figsize=(7.6, 3.8), layout="constrained")
        axes = figure.subplots()
        axes.axhline(ALARMS, color="#3d454d", linestyle="--", linewidth=1, label="by chance")
        for _, auc, share, kind in drawn:
            axes.plot(
                auc, share, kind.marker, color=kind.colour, markersize=8, markeredgewidth=1.5,
                markerfacecolor="white" if kind.fill == "none" else kind.colour,
            )  # fmt: skip
        axes.set_ylim(-0.06, 1.08)
        axes.set_xlabel("AUC of the model (higher is better)")
        axes.set_ylabel("patients named at 1 % false alarms\n(lower is better)")
        axes.margins(x=0.08)
        charts.draw_legend(axes)
        figure.draw_without_rendering()
        charts.write_names(axes, [(name, auc, share) for name, auc, share, _ in drawn])
        return charts.as_svg(figure, "naming")
