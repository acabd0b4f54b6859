"""A privacy account put to the test: the epsilon that an attacker's guesses prove.

Steinke, Nasr and Jagielski, "Privacy auditing with one (1) training run", NeurIPS 2023. Of each of
m canaries a fair coin decides whether it takes part. An attacker guesses r of the coins, those of
which it is surest. With (epsilon, delta) of each canary's part at most so many guesses can be right
as their theorem 5.2 says; more prove that epsilon is larger. All m may be in one training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy
import torch
from torch import Tensor

from adversary.common.errors import UserError

SHARES = (0.02, 0.1, 0.3, 1.0)
"""Of the canaries, how many are guessed; the limit holds for the best of these (Bonferroni)."""

LEVEL = 0.95

_LARGEST = 200.0


class AuditError(UserError, ValueError):
    """An audit that cannot be held as asked for; one line."""


@dataclass(frozen=True, kw_only=True)
class AccountAudit:
    """What guesses say of a claim.

    Parameters
    ----------
    epsilon, delta : float
        Claimed of each canary's part.
    canaries, guesses, correct : int
        How many there were, how many were guessed, and rightly.
    epsilon_lower : float
        That the guesses prove.
    level : float
        Confidence of that.
    """

    epsilon: float
    delta: float
    canaries: int
    guesses: int
    correct: int
    epsilon_lower: float
    level: float = LEVEL

    @property
    def is_wrong(self) -> bool:
        """Whether the claim is refuted; that it is not is no proof of it."""
        return self.epsilon_lower > self.epsilon

    @property
    def words(self) -> str:
        """It in a sentence."""
        verdict = "WRONG" if self.is_wrong else "not refuted"
        return (
            f"{verdict}: epsilon {self.epsilon:.4g} is claimed at delta {self.delta:.2g}; "
            f"{self.correct} of {self.guesses} guesses about {self.canaries} canaries were right, "
            f"which proves at least {self.epsilon_lower:.4g} ({self.level:.0%} confidence)"
        )


def p_value(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """Return the probability of so many correct guesses or more under (epsilon, delta), at most.

    Theorem 5.2 of the paper, as the code of its appendix D has it.
    """
    right = 1 / (1 + math.exp(-min(epsilon, 700.0)))  # of randomised response
    at_least = float(scipy.stats.binom.sf(correct - 1, guesses, right))
    below = np.cumsum(scipy.stats.binom.pmf(np.arange(correct - 1, -1, -1), guesses, right))
    worst = float(np.max(below / np.arange(1, correct + 1), initial=0.0))
    return min(1.0, at_least + 2 * canaries * delta * worst)


def one_run_epsilon(
    canaries: int, guesses: int, correct: int, delta: float, level: float = LEVEL
) -> float:
    """Return the epsilon that correct guesses prove at least, at a confidence level.

    Parameters
    ----------
    canaries : int
        Each of which took part or not by a fair coin of its own.
    guesses, correct : int
        Of how many the coin was guessed, and how often rightly.
    delta : float
        Of the claimed guarantee.
    level : float
        Confidence.
    """

    def doubt(epsilon: float) -> float:
        return p_value(canaries, guesses, correct, epsilon, delta) - (1 - level)

    if doubt(0.0) >= 0:
        return 0.0
    # As many correct guesses as there are leave a chance at any epsilon, so the root exists.
    return float(scipy.optimize.brentq(doubt, 0.0, _LARGEST))


def audited(
    scores: Tensor, inside: Tensor, *, epsilon: float, delta: float, level: float = LEVEL
) -> AccountAudit:
    """Return what scores of canaries prove.

    Parameters
    ----------
    scores : Tensor
        (m,), the higher the likelier that a canary took part; 0 says nothing either way.
    inside : Tensor
        (m,) bool, fair coins.
    epsilon, delta : float
        Claimed.
    level : float
        Confidence.

    Raises
    ------
    AuditError
        Without canaries.
    """
    if not len(scores):
        raise AuditError("there is no canary to guess about; must be at least 1")
    order = scores.abs().argsort(descending=True)
    right = ((scores > 0) == inside)[order].cumsum(0)
    each = 1 - (1 - level) / len(SHARES)
    found = []
    for guesses in sorted({max(1, round(share * len(scores))) for share in SHARES}):
        correct = int(right[guesses - 1])
        lower = one_run_epsilon(len(scores), guesses, correct, delta, each)
        found.append((lower, guesses, correct))
    lower, guesses, correct = max(found)
    return AccountAudit(
        epsilon=epsilon,
        delta=delta,
        canaries=len(scores),
        guesses=guesses,
        correct=correct,
        epsilon_lower=lower,
        level=level,
    )


def fair_coins(count: int, generator: torch.Generator) -> Tensor:
    """Return which canaries take part, (count,) bool."""
    return torch.rand(count, generator=generator) < 0.5
