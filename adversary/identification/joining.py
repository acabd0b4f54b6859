"""Several rounds of one client, of the same patients, joined into one score."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from adversary.identification.null import member_scores, standardised


def joined(rounds: Sequence[tuple[Tensor, Tensor]], rate: float) -> tuple[Tensor, Tensor]:
    """Return standardised scores of all rounds together, of candidates (N,) and null (M,).

    For independent scores of unit deviation the best sum weighs each round by the mean that
    members' scores have in it, which a mixture over the gallery estimates: a round that tells
    nothing weighs nothing.

    Parameters
    ----------
    rounds : sequence of (Tensor, Tensor)
        Standardised scores of candidates and of the null, the same ones in each round.
    rate : float
        Share of the gallery that is taken to be members, in (0, 1).
    """
    weights = [_weight(scores, rate) for scores, _ in rounds]
    if not any(weights):
        weights = [1.0] * len(rounds)
    scores = torch.stack([w * s for w, (s, _) in zip(weights, rounds, strict=True)]).sum(0)
    null = torch.stack([w * s for w, (_, s) in zip(weights, rounds, strict=True)]).sum(0)
    return standardised(scores, null), standardised(null, null)


def _weight(scores: Tensor, rate: float) -> float:
    """Return members' mean score over the variance of theirs and the null's."""
    mean, deviation = member_scores(scores, rate)
    noise = 2 / float(len(scores)) ** 0.5 / rate  # what a mean of nothing but noise may be
    return max(0.0, mean - noise) / (0.5 * (1 + deviation**2))
