"""Attack an update and score what comes of it, in whatever process."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from adversary.attacks.adversary import Adversary
from adversary.common.errors import one_line_error
from adversary.common.results import AttackResult
from adversary.common.torch_state import limited_threads
from adversary.identification.identifier import NAME, IdentificationResult
from adversary.observation.observation import Observation
from adversary.report.pictures import of_result
from adversary.scoring.identification_scores import ScoredIdentification
from adversary.scoring.scorer import Result, Scored, ScoredResult, Scorer
from strategies.attack_queue import Threat

MAX_PARALLEL_ATTACKS = 8
"""Attacks at once where the settings leave it open: each is a process with torch in it."""


def attack_and_score(
    adversary: Adversary,
    scorer: Scorer,
    threat: Threat,
    observation: Observation,
    attacks: Collection[str],
) -> list[Scored] | str:
    """Return what came of these attacks, or why the update cannot be attacked; never raise.

    Identification is one of them, by :data:`adversary.identification.identifier.NAME`.

    Pictures are drawn here too, so that the process that writes them has other things to do.
    """
    try:
        with limited_threads(adversary.threads):
            granted = threat(observation)
            outcomes = adversary.run(observation, granted, only=attacks)
            return [_scored(scorer, observation, outcome) for outcome in outcomes]
    except Exception as error:
        return one_line_error(error)


def _scored(scorer: Scorer, observation: Observation, outcome: Result) -> Scored:
    try:
        scored = scorer.score_result(observation, outcome)
        if isinstance(scored, ScoredIdentification):
            return scored
        return dataclasses.replace(scored, drawn=of_result(scored))
    except Exception as error:
        return _fault(outcome, one_line_error(error))


def _fault(outcome: Result, reason: str) -> Scored:
    """Return an outcome of which scoring went wrong."""
    if isinstance(outcome, IdentificationResult):
        return ScoredIdentification(outcome=outcome, fault=reason)
    return ScoredResult(outcome=outcome, fault=reason)


def failed(attack: str, reason: str) -> Scored:
    """Return what is written of an attack, or of identification, whose process ended."""
    if attack == NAME:
        return ScoredIdentification(outcome=IdentificationResult(seconds=0, failure=reason))
    return ScoredResult(outcome=AttackResult(attack=attack, seconds=0, failure=reason))
