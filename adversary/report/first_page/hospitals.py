"""The verdict by hospital, those that were not examined included."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adversary.report.groups import Group, by_group
from adversary.report.identified import Named
from adversary.report.leakage_rows import Row
from adversary.report.run_info import mapping, positive
from adversary.scoring.verdict import Severity

SHOWN = 6
"""Hospitals named in a sentence; of more their number is told."""


@dataclass(frozen=True, kw_only=True)
class Hospital:
    """One client of the federation.

    Parameters
    ----------
    client, name : str
        As in the tables, and as the report calls it.
    held : int or None
        X-rays that it trains on.
    leaked : Group or None
        What attacks on its updates gave; None where none of them was attacked.
    named : Named or None
        How many of its patients can be named; None where none can be beyond chance.
    """

    client: str
    name: str
    held: int | None = None
    leaked: Group | None = None
    named: Named | None = None

    @property
    def level(self) -> Severity | None:
        """The verdict on it; None where it was not examined."""
        pictures = None if self.leaked is None else self.leaked.level
        if self.named is None:
            return pictures
        return max(Severity.IDENTIFIABLE, pictures or Severity.UNKNOWN)

    @property
    def worst_round(self) -> int | None:
        """The round in which pictures gave away the most, where they make the verdict."""
        if self.leaked is None or self.leaked.level is not self.level:
            return None
        return int(self.leaked.best["round"])


def hospitals(
    rows: Iterable[Row], info: Mapping[str, Any], named: Mapping[str, Named]
) -> tuple[Hospital, ...]:
    """Return the hospitals by verdict, worst first, those that were not examined last.

    ``info["hospitals"]`` may give them names; ``named`` says whose patients can be named. Where
    the server sees a mean over all hospitals, that mean is the only entry.
    """
    names, held = mapping(info.get("hospitals")), mapping(info.get("clients"))
    leaked = {str(group.key): group for group in by_group(rows, "client")}
    aggregate = mapping(info.get("threat")).get("view") == "aggregate"
    known = leaked if aggregate else {**dict.fromkeys(held), **leaked}
    found = [
        Hospital(
            client=client,
            name=_named(client, names, mean_of=len(held) if aggregate else 0),
            held=positive(held.get(client)),
            leaked=leaked.get(client),
            named=named.get(client),
        )
        for client in sorted(known)
    ]
    return tuple(sorted(found, key=lambda one: 1 if one.level is None else -one.level))


def by_level(found: Sequence[Hospital]) -> list[tuple[Severity | None, list[Hospital]]]:
    """Return the hospitals of each verdict, worst first; None stands for not examined."""
    levels = dict.fromkeys(one.level for one in found)
    alike = [(level, [one for one in found if one.level == level]) for level in levels]
    return [(level, sorted(some, key=lambda one: one.client)) for level, some in alike]


def listed(found: Sequence[Hospital]) -> str:
    """Return the names of the hospitals as a sentence has them."""
    names = [one.name for one in found]
    if len(names) > SHOWN + 1:
        names = [*names[:SHOWN], f"{len(names) - SHOWN} others"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _named(client: str, names: Mapping[str, Any], *, mean_of: int) -> str:
    if mean_of:
        return f"the mean of all {mean_of} hospitals"
    given = names.get(client)
    return f"{given} ({client})" if given else client
