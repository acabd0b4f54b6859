"""What a run says, gathered once for the sentences and rules of the first page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adversary.identification.figures import interval
from adversary.report.first_page.about_run import AboutRun, about_run
from adversary.report.first_page.guarantee import Guarantee, guarantee_of
from adversary.report.first_page.hospitals import Hospital, hospitals
from adversary.report.identified import Naming
from adversary.report.leakage_rows import Row
from adversary.report.run_info import mapping
from adversary.report.summary import NOBODY, Summary
from adversary.scoring.verdict import Severity


@dataclass(frozen=True, kw_only=True)
class Situation:
    """A run as the first page sees it.

    Parameters
    ----------
    summary, about, hospitals, guarantee
        Of the run; ``guarantee`` is None where a hospital earns no finite epsilon.
    folder : str
        Of the run, as a command names it.
    status, reason : str
        As in run.json.
    oracles : tuple of str
        What the attacker was granted beyond what a server has.
    shown, scored, attacked : int
        Different X-rays that were shown (visible), of which there is a figure, and that went into
        an attacked update, as far as the truth is known.
    seconds : float
        Computing time of all attacks.
    together : int
        X-rays in the update that gave away the most.
    recorded, looked_for : bool
        Whether updates are kept, and whether anybody was looked for in them.
    cannot_look : str
        Why nobody can be looked for in this run; empty where one can.
    """

    summary: Summary
    about: AboutRun
    hospitals: tuple[Hospital, ...]
    guarantee: Guarantee | None
    folder: str
    status: str
    reason: str
    oracles: tuple[str, ...]
    shown: int
    scored: int
    attacked: int
    seconds: float
    together: int
    recorded: bool
    looked_for: bool
    cannot_look: str

    @property
    def level(self) -> Severity:
        """The verdict on the run."""
        return self.summary.level

    @property
    def all_failed(self) -> bool:
        """Whether attacks were run, and none came to a picture."""
        return self.summary.failed > 0 and not self.summary.images

    @property
    def not_examined(self) -> tuple[Hospital, ...]:
        """Hospitals of which no update was attacked."""
        return tuple(one for one in self.hospitals if one.level is None)

    @property
    def updates_left(self) -> bool:
        """Whether there are hospitals or rounds of which no update was attacked."""
        return bool(self.not_examined) or self.summary.rounds < (self.about.rounds or 0)

    @property
    def whole(self) -> bool:
        """Whether every X-ray of the federation was examined."""
        return self.about.images is not None and self.attacked >= self.about.images

    @property
    def covers_all(self) -> bool:
        """Whether the verdict is on every X-ray: all were examined, or a guarantee holds."""
        return self.whole or (self.guarantee is not None and self.guarantee.settles)

    @property
    def shown_interval(self) -> tuple[float, float] | None:
        """Exact 95 % interval of the share of all X-rays that would be visible.

        It takes those examined for drawn at random. None where nothing is open, or none was scored.
        """
        if self.covers_all or not self.scored:
            return None
        return interval(self.shown, self.scored)

    @property
    def reached(self) -> float | None:
        """PSNR in dB of the X-ray that gave away the most."""
        psnr = self.summary.worst.get("psnr")
        return None if psnr is None else float(psnr)

    @property
    def limit(self) -> float | None:
        """The bound, or what an attack reached beyond it: a bound is an expectation."""
        if self.summary.bound is None:
            return None
        return max(self.summary.bound, self.reached or 0.0)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What of a run's folder the first page needs beyond its summary: rows as tables have them."""

    rows: Sequence[Row]
    accounts: list[Row]
    recorded: bool
    naming: Naming = NOBODY


def situation_of(
    path: Path, info: Mapping[str, Any], summary: Summary, evidence: Evidence
) -> Situation:
    """Return the situation of the run in the folder ``path``; masked updates are left out."""
    done = [row for row in evidence.rows if row["status"] == "ok"]
    known = [row for row in done if row["truth"] is not None]
    updates = {_update(row): row["seconds"] for row in done}
    return Situation(
        summary=summary,
        about=about_run(info, path),
        hospitals=hospitals(evidence.rows, info, evidence.naming.by_client),
        guarantee=guarantee_of(evidence.accounts),
        folder=str(mapping(info.get("settings")).get("out") or path),
        status=str(info.get("status") or "unknown"),
        reason=str(info.get("reason") or ""),
        oracles=tuple(map(str, info.get("oracles") or ())),
        shown=_different(row for row in known if row["level"] is Severity.VISIBLE),
        scored=_different(row for row in known if row["psnr"] is not None),
        attacked=_different(known),
        seconds=sum(seconds or 0.0 for seconds in updates.values()),
        recorded=evidence.recorded,
        together=sum(_update(row) == _update(summary.worst) for row in done),
        looked_for=bool(evidence.naming.lines),
        cannot_look=str(mapping(info.get("missing")).get("identification") or ""),
    )


def _update(row: Row) -> tuple[Any, Any, Any]:
    """Return which attack on which update a row is of."""
    return row.get("round"), row.get("client"), row.get("attack")


def _different(rows: Any) -> int:
    return len({(row["client"], row["truth"]) for row in rows})
