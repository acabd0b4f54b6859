"""What the report's section on who can be named shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from adversary.report.identified import Naming, claimed
from adversary.report.ladder import ladder
from adversary.report.leakage_rows import Row
from adversary.report.naming_charts import Curve, roc_chart
from adversary.report.templating import percent
from adversary.scoring.identification_scores import CandidateScores, by_patient
from adversary.storage.identification_files import Account
from adversary.storage.run_folder import RunFolder, one_line_io_errors

MOST_CURVES = 6
"""Hospitals whose ROC curves are drawn: those with most named for sure."""


def context(
    folder: RunFolder, rows: Sequence[Row], naming: Naming, info: Mapping[str, Any], most: int
) -> dict[str, Any]:
    """Return the names that the template of the section takes.

    Parameters
    ----------
    folder : RunFolder
        The run.
    rows : sequence of Row
        Of leakage.csv, with levels, masked updates left out.
    naming : Naming
        What its identification.csv says.
    info : mapping
        What run.json says.
    most : int
        Clients, and rounds, in the ladder.
    """
    missing = info.get("missing")
    reason = missing.get("identification", "") if isinstance(missing, Mapping) else ""
    with one_line_io_errors(folder.path):
        curves = _curves(folder, naming)
    shares = "; ".join(f"{one.words}: {percent(one.row['tpr_1'])}" for one in naming.lines[:12])
    return {
        "named": naming.lines,
        "not_named": reason,
        "ladder": ladder(rows, naming.lines, most) if naming.lines else None,
        "roc": Markup(roc_chart(curves)),  # matplotlib escapes the names in it
        "roc_text": f"ROC curves of identification by hospital. Named: {shares}",
    }


def _curves(folder: RunFolder, naming: Naming) -> list[Curve]:
    """Return the curves of each hospital's joined rounds, or of its last."""
    if not naming.lines:
        return []
    account = claimed(folder.accounts())
    last = {client: (round, scored) for round, client, scored in folder.identified.scores()}
    last |= {client: (round, scored) for client, round, scored in folder.identified.joined()}
    surest = sorted(naming.lines, key=lambda one: -one.low)
    order = list(dict.fromkeys(one.row["client"] for one in surest))[:MOST_CURVES]
    return [
        curve
        for client in sorted(order)
        if client in last and (curve := _curve(client, *last[client], account)) is not None
    ]


def _curve(client: str, round: int, scored: CandidateScores, account: Account) -> Curve | None:
    people = by_patient(scored)
    if people.members is None or not people.members.any() or people.members.all():
        return None
    return Curve(
        name=client,
        members=people.log_ratios[people.members],
        others=people.log_ratios[~people.members],
        account=account(round, client),
    )
