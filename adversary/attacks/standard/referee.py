"""The one score of all members: how probable an estimate is, given the whole observation.

Twice the negative logarithm of the posterior where the update is explained, and what
:mod:`adversary.attacks.most_probable` has in its place where it is not: an estimate must earn by
its fit what it costs in probability, so that the mean image wins where nothing explains the update
better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from adversary.attacks.certificates import Rival
from adversary.attacks.most_probable import misfit_cost
from adversary.priors.gaussian import GaussianPrior
from adversary.problem.interval_equations import IntervalEquations, has_intervals
from adversary.problem.problem import Problem
from adversary.problem.residuals import CALIBRATION_POINTS, Residuals, residuals


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
            # Of several steps, each of which rounds anew, one candidate does for common units.
            points = 1 if found.unrolled else CALIBRATION_POINTS
            self._sigma = found.calibrated(mean, self.seed, points=points).sigma
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
        total, count = self._misfit(images, labels)
        if not math.isfinite(total):
            raise ValueError("the update that its images would make is not finite")
        distance = float(self.prior.whiten(images).square().sum())
        return Estimate(
            member=member,
            images=images,
            labels=labels,
            cost=float(misfit_cost(images.new_tensor(total), count, images.numel())) + distance,
            chi_square=total / count,
        )

    def limits(self, labels: Tensor) -> IntervalEquations | None:
        """Return the limits of the update under given labels, where limits are what it tells."""
        if not has_intervals(self.problem):
            return None
        return IntervalEquations(self.problem, self.problem.targets(labels), self.seed)

    def _misfit(self, images: Tensor, labels: Tensor) -> tuple[float, int]:
        """Return the sum of squared residuals, and how many there are."""
        if (limits := self.limits(labels)) is not None:
            return limits.misfit(images), len(limits)
        residual = self.equations(labels)(images)
        return float(residual.square().sum()), len(residual)

    def unscored(self, member: str, images: Tensor, labels: Tensor) -> Estimate:
        """Return an estimate that any other is better than."""
        return Estimate(
            member=member, images=images, labels=labels, cost=math.inf, chi_square=math.inf
        )
