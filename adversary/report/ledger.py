"""Record the scores of every attack and the metrics of every round in the run's folder."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

import pandas as pd

from adversary.bounds.cramer_rao import BoundResult
from adversary.common.errors import one_line_error
from adversary.common.torch_state import preserved_rng_state
from adversary.observation.observation import Observation, UpdateKey
from adversary.report import pictures
from adversary.report.identified import claimed
from adversary.report.pace import Pace
from adversary.report.redaction import is_sensitive
from adversary.scoring.identification_scores import ScoredIdentification
from adversary.scoring.scorer import Result, Scored, ScoredResult, Scorer
from adversary.storage import picture_files
from adversary.storage.run_folder import ALL_ATTACKS, RunFolder, Status, one_line_io_errors

log = logging.getLogger(__name__)

ByRound = Mapping[tuple[int, str], Mapping[str, float]]
"""Figures of what attacks got, by round and attack."""

P = ParamSpec("P")
T = TypeVar("T")


class RunListener(Protocol):
    """Callbacks for a run's metrics as they are recorded."""

    def round_done(self, round: int, row: Mapping[str, Any]) -> None:
        """Hear the row of rounds.csv."""

    def closed(self, status: Status, leakage: ByRound) -> None:
        """Hear how the run ended, and what attacks got: attacks end in any order."""


def _never_fails_training(
    method: Callable[Concatenate[Ledger, P], T],
) -> Callable[Concatenate[Ledger, P], T | None]:
    """Log an error instead of raising it: a report must never stop a federation."""

    @functools.wraps(method)
    def noting(self: Ledger, *args: P.args, **kwargs: P.kwargs) -> T | None:
        try:
            with preserved_rng_state():
                return method(self, *args, **kwargs)
        except Exception as error:
            self.errors.append(one_line_error(error))
            log.error("report: %s", self.errors[-1])
            return None

    return noting


class Ledger:
    """Writes the run folder, with the scores of every attack.

    No method raises: what goes wrong is logged in one line and kept in ``errors``, so that the
    caller can end the run with a failure when training is done.

    Parameters
    ----------
    folder : RunFolder
        Where to write.
    scorer : Scorer, optional
        Holds the truth; without one only the attacker's own score is written.
    record : bool
        Whether updates are kept, to be attacked again.
    listeners : sequence of Listener
        Are told what is written; an error of theirs is noted as any other.
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        scorer: Scorer | None = None,
        record: bool = False,
        listeners: Sequence[RunListener] = (),
    ) -> None:
        self.folder = folder
        self.scorer = scorer or Scorer()
        self.record = record
        self.listeners = listeners
        self.errors: list[str] = []
        self._so_far = Pace()
        folder.note_missing(**self.scorer.missing())
        self._keep_mean_xray()

    @_never_fails_training
    def _keep_mean_xray(self) -> None:
        """Keep the mean public X-ray, to be shown beside what an update adds to it."""
        prior = self.scorer.prior
        if prior is not None:
            place = self.folder.mean_xray()
            picture_files.write_files(
                place.parent, {place.name: pictures.encoded(pictures.to_pixels(prior.mean[0]))}
            )

    @_never_fails_training
    def record_observation(self, observation: Observation) -> None:
        """Keep an update, if updates are kept."""
        if self.record:
            self.folder.record(observation)

    @_never_fails_training
    def record_fault(self, round: int, client: str, reason: str) -> None:
        """Write that an update could not be attacked at all, and why."""
        self.folder.add_failure(round, client, ALL_ATTACKS, reason)

    @_never_fails_training
    def record_result(self, update: Observation | UpdateKey, result: Result | Scored) -> str:
        """Write what came of an update beside the truth; return its verdict in a few words.

        Parameters
        ----------
        update : Observation or UpdateKey
            Whose it is; the observation where the result is to be scored here.
        result : AttackResult, IdentificationResult, or either scored elsewhere
            What came of it.
        """
        scored = self._scored(update, result)
        if scored.fault:
            raise RuntimeError(scored.fault)
        self._write(update.round, update.client, scored)
        return scored.verdict

    def _scored(self, update: Observation | UpdateKey, result: Result | Scored) -> Scored:
        if isinstance(result, ScoredResult | ScoredIdentification):
            return result
        if isinstance(update, UpdateKey):
            raise TypeError(f"{update.client}: without its update a result cannot be scored")
        return self.scorer.score_result(update, result)

    def _write(self, round: int, client: str, scored: Scored) -> None:
        if isinstance(scored, ScoredIdentification):
            with one_line_io_errors(self.folder.path):
                self.folder.identified.add(round, client, scored, named=self._names_patients)
        else:
            self._write_attack(round, client, scored)

    @property
    def _names_patients(self) -> bool:
        return not is_sensitive(self.folder.info())

    @_never_fails_training
    def sum_up_identification(self) -> None:
        """Write what accounts allow beside who can be named, and each client's rounds joined."""
        account = claimed(self.folder.accounts())
        with one_line_io_errors(self.folder.path):
            self.folder.identified.finish(account, named=self._names_patients)

    def _write_attack(self, round: int, client: str, scored: ScoredResult) -> None:
        """Write an attack; an update that no image went into is noted instead."""
        outcome = scored.outcome
        if scored.without_images:
            self.folder.note_without_images(round, client)
            return
        if outcome.reconstruction is None:
            reason = outcome.failure or "unknown"
            self.folder.add_failure(round, client, outcome.attack, reason)
            return
        if scored.no_bound:
            self.folder.note_missing(bound_psnr=scored.no_bound)
        bound = scored.bound
        if bound is not None:
            self._tell_of(bound)
        found = outcome.reconstruction
        if found.frames:
            self.folder.add_trials(round, client, outcome.attack, found, scored.trials)
        self.folder.add_reconstruction(
            round,
            client,
            outcome.attack,
            found,
            scored.scores,
            scored.drawn or pictures.of_result(scored),
        )

    def _tell_of(self, bound: BoundResult) -> None:
        """Write to run.json how the bounds of this run were found, and how well."""
        before = self.folder.info().get("bound", {})
        exact = bound.method == "dense" and before.get("method", "dense") == "dense"
        self.folder.update(
            bound={
                "kind": bound.kind,
                "method": "dense" if exact else "stochastic",
                "error": max(before.get("error", 0.0), float(bound.error.max())),
                "converged": before.get("converged", True) and bound.converged,
                "scopes": sorted({*before.get("scopes", ()), bound.scope}),
                "subject": bound.subject,
            }
        )

    @_never_fails_training
    def record_privacy(self, round: int, client: str, **account: Any) -> None:
        """Write what privacy a client has spent after a round in which it took part."""
        self.folder.add_account(round=round, client=client, **account)

    @_never_fails_training
    def record_evaluation(self, round: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write how the model does on each client's own images after a round."""
        self.folder.add_clients([{"round": round, **row} for row in rows])

    @_never_fails_training
    def round_done(self, round: int, **values: Any) -> None:
        """Write the round's row of rounds.csv, and now and then the report so far."""
        self.folder.add_round(round=round, **values)
        self._tell(lambda listener: listener.round_done(round, values))
        self._so_far(lambda: _render(self.folder))

    @_never_fails_training
    def close(self, status: Status, reason: str = "") -> None:
        """Write how the run ended, and the report a last time."""
        self.folder.sort()
        self.sum_up_identification()
        if self.listeners:
            leakage = by_round(self.folder.leakage())
            self._tell(lambda listener: listener.closed(status, leakage))
        self.folder.finish(status, reason)
        _render(self.folder)

    def _tell(self, say: Callable[[RunListener], None]) -> None:
        for listener in self.listeners:
            try:
                say(listener)
            except Exception as error:
                self.errors.append(f"{type(listener).__name__}: {one_line_error(error)}")
                log.error("report: %s", self.errors[-1])


def _render(folder: RunFolder) -> None:
    """Write the report; what draws it is loaded where a run is, not in every client's process."""
    from adversary.report import run_page

    run_page.render(folder)


def by_round(leakage: pd.DataFrame) -> ByRound:
    """Return mean and highest PSNR, mean RDLV and the share re-identified, where there are any."""
    found: dict[tuple[int, str], dict[str, float]] = {}
    done = leakage[leakage["status"] == "ok"]
    for where, rows in done.groupby(["round", "attack"], sort=True):
        round, attack = cast(tuple[int, str], where)
        figures = {
            "psnr_mean": rows["psnr"].mean(),
            "psnr_worst": rows["psnr"].max(),
            "rdlv_mean": rows["rdlv"].mean(),
            "reidentified": _pointing(rows),
        }
        found[int(round), str(attack)] = {n: float(v) for n, v in figures.items() if pd.notna(v)}
    return found


def _pointing(rows: pd.DataFrame) -> float:
    """Return the share of rows whose picture, or its negative, is re-identified."""
    told = rows[["reidentified", "negative"]].astype("float64")
    return float(told.max(axis=1).mean())
