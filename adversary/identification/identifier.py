"""The attacker who looks for candidates in each update: within its time, and without raising."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from adversary.common.errors import one_line_error
from adversary.identification.one_update import (
    Gallery,
    Identification,
    IdentificationError,
    identify,
)
from adversary.observation.observation import MASKED, Observation
from adversary.observation.threat_model import ThreatModel
from adversary.optim.search import Progress
from adversary.priors.public import Prior

NAME = "identification"
"""Stands beside the names of attacks."""


@dataclass(frozen=True, kw_only=True)
class IdentificationResult:
    """What came of looking for candidates in one update, or why nothing did.

    Parameters
    ----------
    seconds : float
        That it took.
    found : Identification, optional
        None where it failed.
    failure : str, optional
        Why it failed, in one line.
    """

    seconds: float
    found: Identification | None = None
    failure: str | None = None

    attack: ClassVar[str] = NAME


class Identifier:
    """Looks for candidates in updates; it can be sent to another process.

    Parameters
    ----------
    model : nn.Module
        The architecture that the server trains.
    candidates : callable
        From an observation to the gallery in which to look. Its order says nothing of who took
        part.
    public : Prior, optional
        Public X-rays.
    seed : int
        Of all that is drawn.
    seconds : float, optional
        Time limit of one update.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        candidates: Callable[[Observation], Gallery],
        public: Prior | None,
        seed: int = 0,
        seconds: float | None = None,
    ) -> None:
        self.model = model
        self.candidates = candidates
        self.public = public
        self.seed = seed
        self.seconds = math.inf if seconds is None else seconds

    def run(
        self, observation: Observation, threat: ThreatModel, *, progress: Progress | None = None
    ) -> IdentificationResult:
        """Return what an update says of each candidate; no error leaves this method."""
        began = time.monotonic()

        def watch(share: float) -> None:
            if time.monotonic() - began > self.seconds:
                raise IdentificationError(f"stopped at its limit of {self.seconds:g} s")
            if progress is not None:
                progress(NAME, share)

        try:
            found = self._identify(observation, threat, watch)
        except Exception as error:  # whatever it is, training must go on
            return IdentificationResult(
                seconds=time.monotonic() - began, failure=one_line_error(error)
            )
        return IdentificationResult(seconds=time.monotonic() - began, found=found)

    def _identify(
        self, observation: Observation, threat: ThreatModel, watch: Callable[[float], None]
    ) -> Identification:
        if observation.client.endswith(MASKED):
            raise IdentificationError(
                f"{observation.name}: a masked update is uniformly distributed, whoever was in it"
            )
        gallery = self.candidates(observation)
        return identify(
            *(observation, threat, self.model, gallery, self.public),
            seed=self.seed,
            progress=watch,
        )
