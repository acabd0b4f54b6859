"""Several rounds of one client, of the same patients, joined into one score."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from adversary.identification.membership import LEAST_MEAN, Members, fitted
from adversary.identification.null import Scores, standardised


def joined(rounds: Sequence[Scores], rate: float) -> Scores:
    """Return what all rounds together say, of the same candidates and null in each.

    Of independent scores of unit deviation the best sum weighs each by the mean that a member's
    score has in it: a round that tells nothing of a candidate weighs nothing.

    Parameters
    ----------
    rounds : sequence of Scores
        Of each round, at least one.
    rate : float
        Share of the gallery that is taken to be members, in (0, 1).
    """
    like = [fitted(one.values, one.expected, rate) for one in rounds]
    # Of a round with nothing but noise the mean may be as large as its error.
    means = [max(0.0, one.mean - 2 * one.error) * (one.mean > LEAST_MEAN) for one in like]
    if not any(means):
        means, like = [1.0] * len(rounds), [Members(1.0, 0.0)] * len(rounds)

    def together(scores: Sequence[Tensor], expected: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        each = torch.stack([one.mean * own for one, own in zip(like, expected, strict=True)])
        variances = [one.variance(own) for one, own in zip(like, expected, strict=True)]
        surely = torch.stack([mean * own for mean, own in zip(means, expected, strict=True)])
        weights = surely / (0.5 * (1 + torch.stack(variances)))
        weights = weights / weights.norm(dim=0).clamp_min(1e-300)
        return (weights * torch.stack(list(scores))).sum(0), (weights * each).sum(0)

    scores, expected = together([r.values for r in rounds], [r.expected for r in rounds])
    null, of_null = together([r.null for r in rounds], [r.null_expected for r in rounds])
    return standardised(
        torch.cat([scores, null]), torch.cat([expected, of_null]), candidates=len(scores)
    )
