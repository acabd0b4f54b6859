"""Who can be named, in a run's folder: scores by update, and the tables that are made of them.

``identification/`` has the scores of each update, for rounds of one client to be joined when the
run ends. identification.csv has a row an update, and one of all rounds of a client joined, without
a round; candidates.csv the scores by patient.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from adversary.common.files import atomic_write
from adversary.identification.null import Scores
from adversary.scoring.identification_scores import (
    LEVEL,
    CandidateScores,
    ScoredIdentification,
    by_patient,
    figures,
    joined_scores,
)
from adversary.storage import csv_table
from adversary.storage.names import round_folder, round_of, safe_name
from adversary.storage.schemas import CANDIDATES, IDENTIFICATION

Account = Callable[[int, str], tuple[float, float] | None]
"""From a round and a client to the epsilon and delta that it has spent by then."""

FOLDER, TABLE, BY_CANDIDATE = "identification", "identification.csv", "candidates.csv"

_TABLES = {TABLE: IDENTIFICATION, BY_CANDIDATE: CANDIDATES}


class IdentificationFiles:
    """The files of one run's folder; errors of the system are raised as they come.

    Parameters
    ----------
    path : Path
        The run's folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, round: int, client: str, result: ScoredIdentification, *, named: bool) -> None:
        """Write what came of one update; candidates by name where ``named`` allows it."""
        self._begin()
        if (scored := result.scored) is None:
            row = {"seconds": result.outcome.seconds, "note": result.outcome.failure}
            self._append(TABLE, [{"round": round, "client": client, **row}])
            return
        if not named:
            scored = replace(
                scored, names=tuple(f"patient {i}" for i, _ in enumerate(scored.names))
            )
        with atomic_write(self._file(round, client)) as temporary:
            temporary.write_text(json.dumps({"client": client} | _plain(scored)))
        self._write(round, client, scored, None, named=named)

    def finish(self, account: Account, *, named: bool) -> None:
        """Write the tables in order, with what accounts allow, and each client's rounds joined."""
        if not (self.path / TABLE).exists():
            return
        failed = csv_table.read(self.path / TABLE, IDENTIFICATION)
        failed = failed[failed["note"].notna() & failed["round"].notna()]
        failures = failed.astype(object).where(failed.notna(), None)
        for name in _TABLES:
            (self.path / name).unlink(missing_ok=True)
        self._begin()
        updates = sum(1 for _ in (self.path / FOLDER).glob("round-*/*.json"))
        # Each client's rounds joined are a row more; together the rows err as often as one would.
        level = 1 - (1 - LEVEL) / max(1, 2 * updates)
        for round, client, scored in self.scores():
            self._write(round, client, scored, account(round, client), named=named, level=level)
        self._append(TABLE, (dict(row) for _, row in failures.iterrows()))
        csv_table.sort(self.path / TABLE, IDENTIFICATION, ("round", "client"))
        for client, last, scored in self.joined():
            self._write(None, client, scored, account(last, client), named=named, level=level)

    def scores(self) -> Iterator[tuple[int, str, CandidateScores]]:
        """Yield round, client and scores of each update, in this order."""
        for file in sorted((self.path / FOLDER).glob("round-*/*.json")):
            content = json.loads(file.read_text(encoding="utf-8"))
            yield round_of(file), content.pop("client"), _read(content)

    def joined(self) -> Iterator[tuple[str, int, CandidateScores]]:
        """Yield clients, the last of their rounds, and the scores of all their rounds joined."""
        every = sorted(self.scores(), key=lambda one: one[1])
        for client, some in groupby(every, key=lambda one: one[1]):
            rounds = list(some)
            if len(rounds) > 1 and len({scored.gallery for _, _, scored in rounds}) == 1:
                last = max(round for round, _, _ in rounds)
                yield client, last, joined_scores([scored for _, _, scored in rounds])

    def done(self) -> set[tuple[str, str]]:
        """Return the updates with a row, by the names of their round's and their own file."""
        if not (self.path / TABLE).exists():
            return set()
        rows = csv_table.read(self.path / TABLE, IDENTIFICATION).dropna(subset=["round"])
        return {
            (round_folder(int(round)), safe_name(str(client)))
            for round, client in zip(rows["round"], rows["client"], strict=True)
        }

    def forget(self, round: int, client: str) -> None:
        """Remove what one update has left."""
        self._file(round, client).unlink(missing_ok=True)
        for name, schema in _TABLES.items():
            if (self.path / name).exists():
                csv_table.remove(self.path / name, schema, {"round": round, "client": client})

    def rewind(self, last: int) -> None:
        """Remove what later rounds have left."""
        for folder in (self.path / FOLDER).glob("round-*"):
            if round_of(folder / "any") > last:
                shutil.rmtree(folder)
        for name in _TABLES:
            if (self.path / name).exists():
                csv_table.remove_after(self.path / name, "round", last)

    def clear(self) -> None:
        """Remove all files."""
        shutil.rmtree(self.path / FOLDER, ignore_errors=True)
        for name in _TABLES:
            (self.path / name).unlink(missing_ok=True)

    def _file(self, round: int, client: str) -> Path:
        return self.path / FOLDER / round_folder(round) / f"{safe_name(client)}.json"

    def _begin(self) -> None:
        if not (self.path / TABLE).exists():
            csv_table.create(self.path / TABLE, IDENTIFICATION)

    def _append(self, name: str, rows: Iterable[Mapping[str, object]]) -> None:
        csv_table.append(self.path / name, _TABLES[name], rows)

    def _write(
        self,
        round: int | None,
        client: str,
        scored: CandidateScores,
        account: tuple[float, float] | None,
        *,
        named: bool,
        level: float = LEVEL,
    ) -> None:
        where = {"round": round, "client": client}
        self._append(TABLE, [where | figures(scored, account, level=level)])
        if not named:
            return
        if not (self.path / BY_CANDIDATE).exists():
            csv_table.create(self.path / BY_CANDIDATE, CANDIDATES)
        people = by_patient(scored)
        self._append(
            BY_CANDIDATE,
            (
                {**where, "candidate": name, "score": float(score), "p_value": float(p),
                 "posterior": float(posterior)}
                for name, score, p, posterior in zip(
                    people.names, people.scores, people.p_values, people.posteriors, strict=True
                )
            ),
        )  # fmt: skip


def _plain(scored: CandidateScores) -> dict[str, Any]:
    said = {name: value.tolist() for name, value in vars(scored.scores).items()}
    return vars(scored) | {"scores": said}


def _read(content: dict[str, Any]) -> CandidateScores:
    said = content.pop("scores")
    if isinstance(said, list):  # of a version that did not say what is expected of members
        null = content.pop("null")
        ones = {"expected": [1.0] * len(said), "null_expected": [1.0] * len(null)}
        said = {"values": said, "null": null, **ones}
    content |= {
        name: tuple(content[name]) for name in ("patients", "names", "members", "flags")
        if content[name] is not None
    }  # fmt: skip
    found = {name: torch.tensor(value, dtype=torch.float64) for name, value in said.items()}
    return CandidateScores(scores=Scores(**found), **content)
