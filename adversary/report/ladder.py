"""How far each update gives its patients away: the highest rung that it reaches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from adversary.report.identified import Named
from adversary.report.leakage_rows import Row
from adversary.scoring.verdict import COPY_PSNR, NAMED_BY_CHANCE, Severity


class Rung(IntEnum):
    """What an attacker has of a patient, most last."""

    NOTHING = 0
    MEMBER = 1
    NAMED = 2
    RECOGNISABLE = 3
    COPY = 4

    @property
    def words(self) -> str:
        """It in a few words."""
        return _WORDS[self]


_WORDS = {
    Rung.NOTHING: "nothing beyond chance",
    Rung.MEMBER: "members told from others",
    Rung.NAMED: "patients named among candidates",
    Rung.RECOGNISABLE: "a picture that points to its patient",
    Rung.COPY: "a copy of an X-ray",
}


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """Rungs by client and round; None where nothing was measured. Round None is all joined."""

    rounds: tuple[int | None, ...]
    clients: tuple[tuple[str, tuple[Rung | None, ...]], ...]


def ladder(rows: Iterable[Row], named: Sequence[Named], most: int) -> Ladder:
    """Return the highest rung of each client's rounds, of at most ``most`` clients and rounds.

    Parameters
    ----------
    rows : iterable of Row
        Of leakage.csv, with levels.
    named : sequence of Named
        Of identification.csv; what naming reaches by chance counts over all of them (Bonferroni).
    most : int
        Clients, and rounds: those of the highest rungs, and the last.
    """
    found: dict[tuple[str, int | None], Rung] = {}

    def reach(client: str, round: int | None, rung: Rung) -> None:
        found[client, round] = max(rung, found.get((client, round), Rung.NOTHING))

    for row in rows:
        if row["status"] == "ok":
            reach(row["client"], row["round"], _of_picture(row))
    for one in named:
        reach(one.row["client"], one.row["round"], _of_names(one, len(named)))
    rounds = sorted({round for _, round in found if round is not None})[-most:]
    joined: tuple[None, ...] = (None,) if any(round is None for _, round in found) else ()
    for client, rung in _over_rounds(found).items() if joined else ():
        reach(client, None, rung)  # who has a copy of one round has it of all
    columns = (*rounds, *joined)
    by_client = {
        client: tuple(found.get((client, round)) for round in columns)
        for client in sorted({client for client, _ in found})
    }
    worst = sorted(by_client, key=lambda client: _highest(by_client[client]), reverse=True)[:most]
    return Ladder(rounds=columns, clients=tuple((one, by_client[one]) for one in sorted(worst)))


def _over_rounds(found: Mapping[tuple[str, int | None], Rung]) -> dict[str, Rung]:
    """Return the highest rung of each client in any round."""
    highest: dict[str, Rung] = {}
    for (client, _), rung in found.items():
        highest[client] = max(rung, highest.get(client, Rung.NOTHING))
    return highest


def _highest(rungs: Iterable[Rung | None]) -> int:
    return max((rung for rung in rungs if rung is not None), default=-1)


def _of_picture(row: Row) -> Rung:
    if row["level"] is Severity.VISIBLE and row["psnr"] is not None and row["psnr"] >= COPY_PSNR:
        return Rung.COPY
    return Rung.RECOGNISABLE if row["level"] >= Severity.IDENTIFIABLE else Rung.NOTHING


def _of_names(one: Named, lines: int) -> Rung:
    if one.chance * lines < NAMED_BY_CHANCE:
        return Rung.NAMED
    return Rung.MEMBER if one.auc_chance * lines < NAMED_BY_CHANCE else Rung.NOTHING
