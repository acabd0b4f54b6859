"""Attack an update and score what comes of it, in whatever process."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from adversary.attacks.adversary import Adversary
from adversary.common.errors import one_line_error
from adversary.common.results import AttackResult
from adversary.common.torch_state import limited_threads
from adversary.observation.observation import Observation
from adversary.report.ledger import draw
from adversary.scoring.scorer import ScoredResult, Scorer
from strategies.attack_queue import Threat

MAX_PARALLEL_ATTACKS = 8
"""Attacks at once where the settings leave it open: each is a process with torch in it."""


def attack_and_score(
    adversary: Adversary,
    scorer: Scorer,
    threat: Threat,
    observation: Observation,
    attacks: Collection[str],
) -> list[ScoredResult] | str:
    """Return what came of these attacks, or why the update cannot be attacked; never raise.

    Pictures are drawn here too, so that the process that writes them has other things to do.
    """
    try:
        with limited_threads(adversary.threads):
            granted = threat(observation)
            outcomes = adversary.run_attacks(observation, granted, only=attacks)
            return [_scored(scorer, observation, outcome) for outcome in outcomes]
    except Exception as error:
        return one_line_error(error)


def _scored(scorer: Scorer, observation: Observation, outcome: AttackResult) -> ScoredResult:
    try:
        scored = scorer.score(observation, outcome)
        return dataclasses.replace(scored, drawn=draw(scored))
    except Exception as error:
        return ScoredResult(outcome=outcome, fault=one_line_error(error))
