r"""Entries of an update of which only limits are known, as values with noise.

A level or a sign says that an entry y lies between two limits. Beside what else is known of it,
normal with mean m and deviation t, that is told to second order by one observed value with noise of
its own: with S and I score and information of the interval
(:mod:`adversary.problem.interval_likelihood`), y has the mean m + t S and the variance
t^2 (1 - I), and so has a normal y of which m + t S / I was seen with the variance t^2 (1 - I) / I.
This is moment matching, as in expectation propagation (Minka 2001); of signs the probit model. What
an entry is expected to be gets better with every fit, so fits and values take turns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adversary.identification.regression import MISFIT, Fit, regress
from adversary.problem.interval_likelihood import information, score

TURNS = 4
"""Of fits and values."""

LEAST_INFORMATION = 1e-6


@dataclass(frozen=True, eq=False)
class Limits:
    """Limits of entries, float64, equal where the value itself is known.

    Parameters
    ----------
    lower, upper : Tensor
        Of one shape.
    """

    lower: Tensor
    upper: Tensor

    def shifted(self, by: Tensor) -> Limits:
        """Return the limits of entries that are larger by so much."""
        return Limits(self.lower + by, self.upper + by)

    def scaled(self, factor: Tensor) -> Limits:
        """Return the limits of entries times a factor > 0."""
        return Limits(self.lower * factor, self.upper * factor)

    def mean(self, expected: Tensor, deviation: Tensor) -> Tensor:
        """Return the mean of entries within limits, normal with these mean and deviation."""
        return expected + deviation * score(*self._apart(expected, deviation))

    def values(self, expected: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
        """Return values that say as much as the limits do, and their noise."""
        apart = self._apart(expected, deviation)
        told = information(*apart).clamp_min(LEAST_INFORMATION)
        known = self.lower == self.upper
        value = torch.where(known, self.lower, expected + deviation * score(*apart) / told)
        noise = deviation * ((1 - told) / told).clamp_min(0).sqrt()
        return value, torch.where(known, 0.0, noise)

    def _apart(self, expected: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
        return (self.lower - expected) / deviation, (self.upper - expected) / deviation


def regress_within(
    limits: Limits,
    data: Tensor,
    candidates: Tensor,
    background: Tensor,
    *,
    noise: Tensor,
    misfit: float | Tensor = MISFIT,
    shared: Tensor | None = None,
) -> Fit:
    """Return what limits on the data say of each candidate.

    Parameters
    ----------
    limits : Limits
        (P,).
    data, noise : Tensor
        (P,), values that stand for the limits at first, and their standard deviations; where a
        value is known its noise stays.
    candidates, background, misfit, shared
        As of :func:`~adversary.identification.regression.regress`.
    """
    known = limits.lower == limits.upper
    rows = candidates, background
    fit = regress(data, *rows, noise=noise, misfit=misfit, shared=shared)
    for _ in range(TURNS - 1):
        value, spread = limits.values(fit.explained.double(), fit.doubt.double())
        data = torch.where(known, data, value.to(data))
        told = torch.where(known, noise, spread.to(noise))
        fit = regress(data, *rows, noise=told, misfit=misfit, shared=shared)
    return fit
