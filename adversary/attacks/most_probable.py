r"""The most probable images, by first-order steps on the posterior of the whole update.

With S the sum of squared residuals of the update in units of its noise, N of them, and n unknown
pixels, least is

    f(S) + ||z||^2,     f(S) = S                                   for S <= N + n,
                               N + n (1 + log((S - N) / n))        beyond,

over whitened images z, x = mu + C^1/2 z, of which ||z||^2 is the Mahalanobis distance from public
X-rays. Up to N + n that is twice the negative logarithm of the posterior. What is left beyond is no
noise: it is the trace of wrong values of the n unknowns, whose size is not known. An unknown scale
with n degrees of freedom counts it by its logarithm, with the same slope where they meet, so that
the prior stays in force however small the noise is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from adversary.attacks.base import Attack, Run
from adversary.attacks.options import option
from adversary.common.results import Solution
from adversary.common.seeding import generator
from adversary.common.types import StateDict, Variables
from adversary.labels.candidates import likely_labels
from adversary.optim.loop import Objective, minimise
from adversary.optim.optimizers import LBFGS
from adversary.optim.search import Search
from adversary.priors.gaussian import GaussianPrior
from adversary.problem.problem import Problem, image_prior
from adversary.problem.residuals import residuals
from adversary.problem.update_models import select

MIN_SCOUT_GAIN = 0.5
"""Of the score in :attr:`MostProbable.SCOUT` steps, at least, to go on: odds of 1.3."""


def misfit_cost(total: Tensor, count: int, unknowns: int) -> Tensor:
    """Return f(S), elementwise.

    Parameters
    ----------
    total : Tensor
        S, >= 0.
    count : int
        N, the number of residuals.
    unknowns : int
        n.
    """
    free = min(count, unknowns)
    excess = (total - count) / free
    beyond = count + free * (1 + excess.clamp_min(1).log())
    return torch.where(excess > 1, beyond, total)


@dataclass(frozen=True, kw_only=True, eq=False)
class MostProbable(Attack):
    """L-BFGS on the posterior in whitened coordinates, for all labels that may be right at once.

    It needs no weight to be chosen, goes through every channel that the likelihood has, unrolls
    several local steps, and costs the gradient of a gradient an iteration. Labels are compared
    after :data:`SCOUT` iterations, and the likeliest go on.

    Parameters
    ----------
    iterations : int
        L-BFGS steps.
    memory : int
        Curvature pairs.
    """

    name: ClassVar[str] = "map"
    title: ClassVar[str] = "Most probable images"
    reference: ClassVar[str] = "this project"

    SCOUT = 50
    """Iterations after which candidate labels are compared, and what was gained is looked at."""

    APART = 0.1
    """Of the images of a batch at the start, in standard deviations: equals would stay equal."""

    no_result: ClassVar[str] = "no images gave a finite score"

    iterations: int = option(1000, above=0)
    memory: int = option(30, above=0)

    def solve(self, run: Run) -> Solution:
        """Return the most probable images under the labels that gain most at first."""
        problem, prior = run.problem, image_prior(run.problem.to(torch.float64))
        candidates = likely_labels(problem, prior.mean.to(problem.dtype).expand(problem.shape))
        low = _Posterior(problem.to(torch.float32), prior.to(dtype=torch.float32), run.search)
        found = self._start(low.problem, len(candidates), run.seed)
        best, iterations = list(range(len(candidates))), self.iterations
        if len(candidates) > 1:
            scout = min(self.SCOUT, iterations)
            found, scores = self._minimised(low, candidates, found, scout)
            best, iterations = [int(scores.argmin())], iterations - scout
        labels = candidates[best[0]]
        start: Variables = {"whitened": found["whitened"][best]}
        found, scores = self._minimised(low, [labels], start, iterations)
        images = low.prior.colour(found["whitened"][0])
        return Solution(images=images, labels=labels, score=float(scores[0]))

    def _start(self, problem: Problem, count: int, seed: int) -> Variables:
        """Return (R, B, n) near the mean."""
        shape = problem.shape[0], math.prod(problem.shape[1:])
        noise = torch.randn(shape, generator=generator(seed, "start"))
        start = (self.APART if len(noise) > 1 else 0.0) * noise
        return {"whitened": start.expand(count, *shape).clone().to(problem.device, problem.dtype)}

    def _minimised(
        self, posterior: _Posterior, labels: list[Tensor], start: Variables, iterations: int
    ) -> tuple[Variables, Tensor]:
        """Return where L-BFGS ends: after so many steps, or where they gain nothing that counts."""
        objective, search = posterior.objective(labels), posterior.search
        method, before = LBFGS(memory=self.memory), math.inf
        found, scores = start, torch.full((len(labels),), math.inf)
        for first in range(0, max(iterations, 1), self.SCOUT):
            steps, told = min(self.SCOUT, iterations - first), len(search.history)
            found, scores = minimise(objective, found, method, iterations=steps, search=search)
            search.history[told:] = [
                step._replace(iteration=first + step.iteration) for step in search.history[told:]
            ]
            least = float(scores.min())
            if not before - least >= MIN_SCOUT_GAIN or search.exhausted():
                break
            before = least
        return found, scores


@dataclass(frozen=True)
class _Posterior:
    """What is minimised, in float32, under given labels."""

    problem: Problem
    prior: GaussianPrior
    search: Search

    def objective(self, labels: list[Tensor]) -> Objective:
        """Return the score of whitened images, of candidates each with labels of its own."""
        problem, seed = self.problem, self.search.seed
        targets = torch.stack([problem.targets(given) for given in labels])
        exact = problem.to(torch.float64)
        equations = residuals(exact, exact.targets(labels[0]), math.inf, seed)
        mean = self.prior.mean.double().expand(problem.shape)
        sigma, count = equations.calibrated(mean, seed).sigma, len(equations)
        reading, unknowns = select("auto", problem.observation), math.prod(problem.shape)

        def score(variables: Variables) -> Tensor:
            whitened = variables["whitened"]
            images = {"images": self.prior.colour(whitened)}
            read = reading.variables(problem, len(whitened)) | images
            found = reading.gradients(problem, read, targets)
            total = _total(found, problem.gradient, sigma)
            return misfit_cost(total, count, unknowns) + whitened.square().sum((1, 2))

        return score


def _total(found: StateDict, observed: StateDict, sigma: dict[str, float]) -> Tensor:
    """Return the sum of squares of (R, ...) gradients beside the observed one, (R,)."""
    each = [((found[n] - observed[n]) / sigma[n]).square().flatten(1).sum(1) for n in sigma]
    return torch.stack(each).sum(0)
