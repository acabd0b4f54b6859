r"""The one score of all members: how probable an estimate is, given the whole observation.

Twice the negative logarithm of the posterior, S + m, with S the sum of squared residuals over all
N entries that the update tells, in units of the noise, and m the Mahalanobis distance from public
X-rays. That holds where S is about N. Far above it the estimate is wrong in a way that no noise
explains; what is left over are not N independent errors, but the trace of wrong values of the n
unknowns. There the size of the noise counts as unknown and N as min(N, n): the score goes on as
N + n log(S / N) + m, so that an estimate must earn by its fit what it costs in probability.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from adversary.certificates import Rival
from adversary.priors import GaussianPrior
from adversary.problem import Problem
from adversary.residuals import Residuals, residuals


@dataclass(frozen=True, kw_only=True)
class Estimate(Rival):
    """What a member gave, with its common score.

    Parameters
    ----------
    member : str
        Its name.
    chi_square : float
        Mean squared residual.
    """

    member: str
    chi_square: float


class Referee:
    """Scores estimates of one update; sees the problem and public X-rays, never the truth.

    Parameters
    ----------
    problem : Problem
        In float64.
    prior : GaussianPrior
        Of each image.
    seed : int
        Of the candidates at which rounding is measured.
    """

    def __init__(self, problem: Problem, prior: GaussianPrior, seed: int) -> None:
        self.problem = problem
        self.prior = prior
        self.seed = seed
        self._sigma: dict[str, float] | None = None

    def equations(self, labels: Tensor) -> Residuals:
        """Return all equations under given labels, in units of one noise for all of them.

        The level of rounding is measured once, at the mean public X-ray under the first labels
        asked for: estimates are compared in the same units.
        """
        found = residuals(self.problem, self.problem.targets(labels), math.inf, self.seed)
        found = found.completed()
        if self._sigma is None:
            mean = self.prior.mean.expand(self.problem.shape)
            self._sigma = found.calibrated(mean, self.seed).sigma
        return Residuals(self.problem, found.targets, found.picks, self._sigma)

    @torch.no_grad()
    def estimate(self, member: str, images: Tensor, labels: Tensor) -> Estimate:
        """Return an estimate with its score.

        Raises
        ------
        ValueError
            If images or score hold what is no finite number.
        """
        images = images.to(self.problem.device, self.problem.dtype)
        if not bool(torch.isfinite(images).all()):
            raise ValueError("its images hold NaN or infinite values")
        residual = self.equations(labels)(images)
        total = float(residual.square().sum())
        if not math.isfinite(total):
            raise ValueError("the update that its images would make is not finite")
        count = len(residual)
        distance = float(self.prior.whiten(images).square().sum())
        return Estimate(
            member=member,
            images=images,
            labels=labels,
            cost=misfit_cost(total, count, images.numel()) + distance,
            chi_square=total / count,
        )


def misfit_cost(total: float, count: int, unknowns: int) -> float:
    """Return the part of the score that the residuals have, from the sum of their squares.

    Parameters
    ----------
    total : float
        S, >= 0.
    count : int
        N, the number of residuals.
    unknowns : int
        n.
    """
    if total <= count:
        return total
    return count + min(count, unknowns) * math.log(total / count)


def renamed(estimate: Estimate, member: str) -> Estimate:
    """Return an estimate under another name."""
    return dataclasses.replace(estimate, member=member)
