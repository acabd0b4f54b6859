"""Where to begin with a batch that has several minima: many starts in few coordinates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from adversary.attacks.gauss_newton.principal_components import SubspaceResiduals
from adversary.common.seeding import generator
from adversary.optim.levenberg_marquardt import DescentOptions, Iterate, LevenbergMarquardt
from adversary.optim.prior_terms import GaussianTerm
from adversary.optim.quadratic_models import DenseModel
from adversary.optim.search import Search
from adversary.priors.gaussian import GaussianPrior
from adversary.problem.residuals import Residuals

INITIAL_TEMPERATURE = 10.0
"""Temperature of the starts."""

MIN_DECREASE = 0.997
"""Factor by which a step at the true noise makes the cost smaller, else the start has ended."""


@dataclass(frozen=True)
class AnnealingLevel:
    """Starts in so many coordinates.

    Parameters
    ----------
    count : int
        Coordinates of an image, at most.
    inflation : float
        Of the noise that the others make, for the true images to be among the likely.
    starts : int
        Of which the most probable minimum is taken.
    steps : int
        Accepted steps of each at most.
    drawn : float
        Standard deviation of the coordinates that a start draws, in units of the prior's.
    """

    count: int
    inflation: float
    starts: int
    steps: int
    drawn: float


ANNEALING_LEVELS = (AnnealingLevel(15, 12.0, 6, 25, 1.0), AnnealingLevel(120, 3.0, 4, 14, 0.5))


def multistart(equations: Residuals, prior: GaussianPrior, search: Search, seed: int = 0) -> Tensor:
    """Return images in the deepest minimum that starts in few coordinates find, (B, C, H, W).

    Images of one label are told apart by the second derivative of the update alone, as in phase
    retrieval, and a descent from hot noise takes the same wrong turn from wherever it begins. A
    start from draws of the prior at little more than the noise of the coordinates that are left
    out is often in the right valley, and costs so little that several can be compared.

    Parameters
    ----------
    equations : Residuals
        Of B images.
    prior : GaussianPrior
        Of each of them.
    search : Search
        Limits; its history is left as it is.
    seed : int
        Of the starts.
    """
    draw = generator(seed, "scouts")
    batch, found = len(equations.targets), prior.mean.new_zeros(len(equations.targets), 1, 1, 0)
    for index, level in enumerate(ANNEALING_LEVELS):
        if index and search.exhausted():  # to learn the next level's noise takes long
            break
        count = min(level.count, prior.size // 2)
        few = SubspaceResiduals(equations, prior, count, inflation=level.inflation, seed=seed)
        places = []
        for _ in range(level.starts):
            new = torch.randn(batch, 1, 1, count - found.shape[3], generator=draw).to(found)
            start = torch.cat([found, level.drawn * new], 3)
            places.append(_descended(few, start, level.steps, search))
            if search.exhausted():
                break
        found = min(places, key=_cost).images
    return few.filled(found)


def _descended(few: SubspaceResiduals, start: Tensor, steps: int, search: Search) -> Iterate:
    clock = Search(search.name, search.seed, search.limits, started=search.started)
    place = Iterate(start, few(start), INITIAL_TEMPERATURE)
    penalty = GaussianTerm(standard_normal_prior(start))
    equations = cast(Residuals, few)  # of the same interface
    lowest = math.inf

    def falling(place: Iterate, temperature: float) -> bool:
        nonlocal lowest
        before, lowest = lowest, min(lowest, _cost(place))
        return temperature > 1 or lowest < MIN_DECREASE * before

    options = DescentOptions(iterations=steps)
    descent = LevenbergMarquardt(equations, penalty, DenseModel, clock, options)
    place = descent.minimise(place, falling)
    search.evaluations += clock.evaluations
    return place


def _cost(place: Iterate) -> float:
    return float(place.residual.square().sum() + place.images.square().sum())


def standard_normal_prior(coordinates: Tensor) -> GaussianPrior:
    """Return the standard normal distribution of coordinates, (B, 1, 1, k)."""
    size = coordinates.shape[-1]
    nothing = coordinates.new_zeros(1, size)
    return GaussianPrior(nothing.view(1, 1, 1, size), nothing, coordinates.new_ones(size))
