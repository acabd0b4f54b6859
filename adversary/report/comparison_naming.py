"""Who can be named under each setting, for the page of a comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup

from adversary.report.comparison import ComparisonRow
from adversary.report.naming_charts import NamedPoint, naming_frontier
from adversary.report.templating import format_number, percent
from adversary.scoring.verdict import NAMED_BY_CHANCE, Severity


def context(
    rows: Sequence[ComparisonRow], kind: Callable[[Severity], str], *, same_data: bool
) -> dict[str, Any]:
    """Return the chart of naming against the model's AUC, and it in words.

    Parameters
    ----------
    rows : sequence of ComparisonRow
        One a setting, in the order of the page.
    kind : callable
        From a level to a key of :data:`adversary.report.charts.KINDS`.
    same_data : bool
        Whether figures of different settings may be set side by side.
    """
    points = [
        NamedPoint(name=row.label, auc=row.auc, named=row.tpr_1, kind=kind(row.level))
        for row in rows
    ]
    told = [
        f"{row.label}: AUC of the model {format_number(row.auc, 3)}, named {percent(row.tpr_1)}"
        for row in rows
        if row.tpr_1 is not None
    ]
    return {
        # matplotlib escapes the names in it
        "naming_chart": Markup(naming_frontier(points)) if same_data else "",
        "naming_text": f"Named at 1 % false alarms, against the model’s AUC. {'; '.join(told)}",
    }


def clause(row: ComparisonRow) -> str:
    """Return who can be named, as the beginning of a clause; empty where it may be chance."""
    if row.tpr_1 is None or row.naming_chance >= NAMED_BY_CHANCE:
        return ""
    return f"the server can name {percent(row.tpr_1)} of patients at one false alarm in a hundred, "
