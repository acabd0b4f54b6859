"""The threat model of a run in plain words: what the attacker has, and what it was told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Source = Literal["has", "public", "oracle", "not told"]


@dataclass(frozen=True)
class ThreatSummary:
    """One thing, where the attacker has it from, and what that means."""

    thing: str
    source: Source
    meaning: str


def summarize_threat(info: Mapping[str, Any]) -> list[ThreatSummary]:
    """Return what run.json says of the attacker's knowledge, a line each, oracles marked."""
    threat = info.get("threat") or {}
    audit = bool(info.get("audit"))
    known = [
        ThreatSummary("The model", "has", "Architecture and weights, before and after training."),
        _update(threat.get("view") == "aggregate", audit, info),
        ThreatSummary(
            "How clients train",
            "has",
            "Loss, optimiser, learning rate, batch size and steps: "
            + ("they were named to the audit." if audit else "the server itself prescribes them."),
        ),
        ThreatSummary("Other X-rays", "public", "A few, none of them of the patients here."),
    ]
    if "defence_known" in threat:
        known.append(_defence(bool(threat["defence_known"])))
    if "labels_known" in threat:
        known.append(_labels(bool(threat["labels_known"])))
    told = {"labels known"}  # has a line of its own
    known += [
        ThreatSummary(str(oracle), "oracle", "A server would have to be told.")
        for oracle in info.get("oracles") or ()
        if oracle not in told or "labels_known" not in threat
    ]
    known.append(
        ThreatSummary(
            "The patients’ X-rays",
            "not told",
            "They are used to score what an attack has made, never by an attack itself.",
        )
    )
    return known


def _update(aggregate: bool, audit: bool, info: Mapping[str, Any]) -> ThreatSummary:
    if not aggregate:
        return ThreatSummary(
            "The update", "has", "What one client made of the model, client by client."
        )
    many = f"the {len(info.get('clients') or ())} clients" if audit else "all clients"
    masks = (
        ""
        if audit
        else " Of one client alone it has a masked vector, its number of images and its loss: by "
        "secure aggregation the masks cancel in the mean only. To show what that gives away, one "
        "masked update a round is attacked too, under the client’s name with “-masked”; the "
        "verdict leaves it out."
    )
    return ThreatSummary("The update", "has", f"The mean of what {many} made of the model.{masks}")


def _defence(known: bool) -> ThreatSummary:
    if known:
        return ThreatSummary(
            "The defence", "public", "Which one, and how strong: all clients know it."
        )
    return ThreatSummary(
        "The defence", "not told", "The attacker takes the update for an undefended one."
    )


def _labels(known: bool) -> ThreatSummary:
    if known:
        return ThreatSummary(
            "The diagnoses", "oracle", "The true labels of the images it looks for."
        )
    return ThreatSummary(
        "The diagnoses", "not told", "It reads the labels from the update, or guesses."
    )
