"""Attack an update and score what comes of it, in whatever process."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from adversary.attacks.adversary import Adversary
from adversary.common.errors import in_one_line
from adversary.common.results import Outcome
from adversary.common.torch_state import threads_set
from adversary.observation.observation import Observation
from adversary.report.ledger import draw
from adversary.scoring.scorer import Scored, Scorer
from strategies.attack_queue import Threat

MOST_AT_ONCE = 8
"""Attacks at once where the settings leave it open: each is a process with torch in it."""


def examine(
    adversary: Adversary,
    scorer: Scorer,
    threat: Threat,
    observation: Observation,
    attacks: Collection[str],
) -> list[Scored] | str:
    """Return what came of these attacks, or why the update cannot be attacked; never raise.

    Pictures are drawn here too, so that the process that writes them has other things to do.
    """
    try:
        with threads_set(adversary.threads):
            granted = threat(observation)
            outcomes = adversary.examine(observation, granted, only=attacks)
            return [_scored(scorer, observation, outcome) for outcome in outcomes]
    except Exception as error:
        return in_one_line(error)


def _scored(scorer: Scorer, observation: Observation, outcome: Outcome) -> Scored:
    try:
        scored = scorer.score(observation, outcome)
        return dataclasses.replace(scored, drawn=draw(scored))
    except Exception as error:
        return Scored(outcome=outcome, fault=in_one_line(error))
