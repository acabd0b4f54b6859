"""What a defence claims against the server: a limit, a veil, or nothing.

Lighthouse never shows some kinds of results as passed; here the kind goes before the strength: a
setting that hides something is not ranked with one that promises something.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from adversary.report.first_page.about_run import UNDEFENDED
from adversary.report.first_page.guarantee import Guarantee
from adversary.report.run_info import mapping
from adversary.scoring.verdict import Severity


class Promise(IntEnum):
    """What holds against the server, most first."""

    LIMIT = 0
    VEIL = 1
    NOTHING = 2
    UNKNOWN = 3

    @property
    def title(self) -> str:
        """Over the settings of the kind."""
        return _WORDS[self].title

    @property
    def meaning(self) -> str:
        """What the kind is worth, in a sentence."""
        return _WORDS[self].meaning


@dataclass(frozen=True)
class _Words:
    title: str
    meaning: str


_WORDS = {
    Promise.LIMIT: _Words(
        "Promises something against the server",
        "An ε that is earned and small enough, or a bound near chance: it holds whatever the "
        "attack.",
    ),
    Promise.VEIL: _Words(
        "Hides something from the server",
        "The update is changed or mixed, and no limit follows from it: a better attack may see "
        "through it.",
    ),
    Promise.NOTHING: _Words(
        "Does nothing against the server",
        "The server receives the update as it was trained, or protection is against others alone.",
    ),
    Promise.UNKNOWN: _Words(
        "Not run", "No run of these settings is done, so nothing is said of what they hold."
    ),
}


def promise_of(
    level: Severity, guarantee: Guarantee | None, defence: Mapping[str, Any], name: str
) -> Promise:
    """Return what a setting claims.

    Parameters
    ----------
    level : Severity
        The verdict on it.
    guarantee : Guarantee or None
        The weakest finite account of its hospitals.
    defence : mapping
        Entry ``defence`` of run.json.
    name : str
        Of the defence.
    """
    if level is Severity.PROTECTED:
        return Promise.LIMIT
    if guarantee is not None and guarantee.holds_against_server and not guarantee.too_large:
        return Promise.LIMIT
    # Runs of before this entry: of defences for the released models alone, the account tells.
    against_others = guarantee is not None and not guarantee.holds_against_server
    altered = mapping(defence).get("alters_updates", name != UNDEFENDED and not against_others)
    return Promise.VEIL if altered else Promise.NOTHING
