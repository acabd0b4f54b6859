"""The scoring side: it alone holds the truth, and writes down what each attack got of it."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from torch import Tensor

from adversary.adversary import Outcome, in_one_line, random_state_kept
from adversary.bounds import Bound, BoundError
from adversary.evaluation import Truth, score
from adversary.metrics import load_lpips
from adversary.observation import Observation, ObservationError
from adversary.priors import Prior
from adversary.report import html
from adversary.report.run_folder import RunFolder, Status

log = logging.getLogger(__name__)

RENDERING_SHARE = 0.05
"""Share of a run's time that goes at most into showing rounds so far in the report."""

ALL_ATTACKS = "-"
"""Stands for the attack in the line of an update that no attack could be run on."""


P = ParamSpec("P")
T = TypeVar("T")


def _kept_from_training(
    method: Callable[Concatenate[Ledger, P], T],
) -> Callable[Concatenate[Ledger, P], T | None]:
    """Note an error instead of raising it: a report must never stop a federation."""

    @functools.wraps(method)
    def noting(self: Ledger, *args: P.args, **kwargs: P.kwargs) -> T | None:
        try:
            with random_state_kept():
                return method(self, *args, **kwargs)
        except Exception as error:
            self.errors.append(in_one_line(error))
            log.error("report: %s", self.errors[-1])
            return None

    return noting


class Ledger:
    """Scores reconstructions and writes the run folder.

    No method raises: what goes wrong is logged in one line and kept in ``errors``, so that the
    caller can end the run with a failure when training is done.

    Parameters
    ----------
    folder : RunFolder
        Where to write.
    truth : callable, optional
        From an observation to the images behind it, or None where they are not known. In a real
        deployment there is none; then only the attacker's own score is written.
    prior : Prior, optional
        Public X-rays, the baseline of RDLV.
    candidates : Tensor, optional
        (N, C, H, W), an image for each patient among whom to re-identify.
    record : bool
        Whether updates are kept, to be attacked again.
    bound : callable, optional
        From an observation and the truth behind it to what no attacker should beat. It may raise
        :class:`~adversary.bounds.BoundError`; the reason goes to run.json.
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        truth: Callable[[Observation], Truth | None] | None = None,
        prior: Prior | None = None,
        candidates: Tensor | None = None,
        record: bool = False,
        bound: Callable[[Observation, Truth], Bound] | None = None,
    ) -> None:
        self.folder = folder
        self.truth = truth
        self.prior = prior
        self.candidates = candidates
        self.record = record
        self.bound = bound
        self._bounded: tuple[tuple[int, str], Bound | None] | None = None
        self.errors: list[str] = []
        self._render_from = 0.0
        self.lpips = None
        if truth is not None:
            self.lpips, reason = load_lpips()
            if self.lpips is None:
                folder.note_missing(lpips=reason)
            if bound is None:
                folder.note_missing(bound_psnr="not asked for")

    @_kept_from_training
    def observed(self, observation: Observation) -> None:
        """Keep an update, if updates are kept."""
        if self.record:
            observation.save(self.folder.recorded_update(observation.round, observation.client))

    @_kept_from_training
    def unusable(self, round: int, client: str, reason: str) -> None:
        """Write that an update could not be attacked at all, and why."""
        self.folder.add_failure(round, client, ALL_ATTACKS, reason)

    @_kept_from_training
    def outcome(self, observation: Observation, outcome: Outcome) -> float | None:
        """Score and write one attack; return the mean PSNR in dB where the truth is known.

        An update that no image went into has nothing to score: that is noted instead.
        """
        round, client, attack = observation.round, observation.client, outcome.attack
        truth = self.truth(observation) if self.truth is not None else None
        if truth is not None and not len(truth.images):
            self.folder.note_without_images(round, client)
            return None
        if outcome.reconstruction is None:
            self.folder.add_failure(round, client, attack, outcome.failure or "unknown")
            return None
        if truth is None:
            self.folder.add_reconstruction(round, client, attack, outcome.reconstruction)
            return None
        bound = self._bound_of(observation, truth)
        scores = score(
            outcome.reconstruction,
            truth,
            prior=self.prior,
            candidates=self.candidates,
            lpips=self.lpips,
            bound_psnr=None if bound is None else bound.psnr,
        )
        self.folder.add_reconstruction(
            round,
            client,
            attack,
            outcome.reconstruction,
            scores,
            truth.images,
            # From a few probes the mean is good and the map is noise.
            bound.deviation if bound is not None and bound.method == "dense" else None,
        )
        known = [one.psnr for one in scores if one.psnr is not None]
        return sum(known) / len(known) if known else None

    def _bound_of(self, observation: Observation, truth: Truth) -> Bound | None:
        """Return the bound, found once for all attacks on an update."""
        if self.bound is None:
            return None
        update = (observation.round, observation.client)
        if self._bounded is None or self._bounded[0] != update:
            self._bounded = update, None
            try:
                found = self.bound(observation, truth)
            except (BoundError, ObservationError) as error:
                self.folder.note_missing(bound_psnr=in_one_line(error))
            else:
                self._tell_of(found)
                self._bounded = update, found
        return self._bounded[1]

    def _tell_of(self, bound: Bound) -> None:
        """Write to run.json how the bounds of this run were found, and how well."""
        before = self.folder.info().get("bound", {})
        self.folder.update(
            bound={
                "kind": bound.kind,
                "method": bound.method,
                "error": max(before.get("error", 0.0), float(bound.error.max())),
                "converged": before.get("converged", True) and bound.converged,
            }
        )

    @_kept_from_training
    def spent(self, round: int, client: str, **account: Any) -> None:
        """Write what privacy a client has spent after a round in which it took part."""
        self.folder.add_account(round=round, client=client, **account)

    @_kept_from_training
    def evaluated(self, round: int, client: str, **figures: Any) -> None:
        """Write how the model does on a client's own images after a round."""
        self.folder.add_client(round=round, client=client, **figures)

    @_kept_from_training
    def round_done(self, round: int, **values: Any) -> None:
        """Write the round's row of rounds.csv, and the report so far if that is not too often."""
        self.folder.add_round(round=round, **values)
        began = time.monotonic()
        if began >= self._render_from:
            html.render(self.folder)
            ended = time.monotonic()
            self._render_from = ended + (ended - began) / RENDERING_SHARE

    @_kept_from_training
    def close(self, status: Status, reason: str = "") -> None:
        """Write how the run ended, and the report a last time."""
        self.folder.finish(status, reason)
        html.render(self.folder)
