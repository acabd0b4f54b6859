"""Images from the batch-normalisation buffers of an update, without its gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from adversary.attacks.base import Attack, Run
from adversary.attacks.options import option
from adversary.common.results import Solution
from adversary.common.seeding import generator
from adversary.common.types import StateDict, Variables
from adversary.labels import recovery
from adversary.observation.batch_statistics import (
    LayerStatistics,
    batch_statistics,
    observed_statistics,
    simulated_statistics,
)
from adversary.optim.loop import Objective, Recording, minimise
from adversary.optim.optimizers import LBFGS
from adversary.priors.gaussian import GaussianPrior
from adversary.problem.problem import Problem, image_prior
from adversary.problem.update_models import assumed_batches
from adversary.problem.weight_path import interpolated_weights, step_positions

MIN_RELATIVE_STD = 1e-2
"""Least deviation of a channel, relative to its layer's mean, to measure errors by."""


class StatisticsDrift(NamedTuple):
    """Root mean square over a layer's channels of how far their statistics move, () each."""

    mean: Tensor
    deviation: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchStatistics(Attack):
    """The most probable images with the batch statistics of the update, shallow layers first.

    Least of the squared errors of every channel's mean and deviation, in units of ``error`` times
    the channel's deviation, plus the Mahalanobis distance from public X-rays. The statistics are
    the prior term of Yin et al. (CVPR 2021, eq. 10); here they are all there is. With batch
    normalisation in training mode the gradient of a deep ReLU network is a poor guide to its
    images, its last maps of a few values being normalised by themselves. The statistics are
    continuous in the images, and those of the first layer quadratic. So the search begins with
    the first layers and takes in more of them in each stage, from where the last one ended.

    Optimised are whitened images, x = mu + S^1/2 z, in which the distance from public X-rays is
    ||z||^2, by L-BFGS in float32.

    Of several local steps the buffers tell a mean of statistics, each at weights of its own. Those
    are taken from the line between the weights sent and those returned. How far that is wrong is
    not known, but it grows with the way: as an error of every statistic of a layer counts what
    the whole way makes of those of public X-rays, in root mean square over channels.

    Parameters
    ----------
    iterations : int
        L-BFGS steps of each stage.
    stages : int
        Stages, the last of which takes all layers that are used.
    depth : float
        Share of the layers that are used, from the first on, > 0 and <= 1.
    error : float
        Error of the statistics, in standard deviations of their channel, > 0. Few iterations ask
        for a larger one: the way to what they cannot fit leads away from the images.
    memory : int
        Curvature pairs of L-BFGS.
    """

    name: ClassVar[str] = "batch-statistics"
    title: ClassVar[str] = "Batch-norm statistics, layer by layer"
    reference: ClassVar[str] = "Yin et al., CVPR 2021, eq. 10"

    NUDGE = 0.3
    """Of the images of a batch from the mean, in standard deviations of the prior."""

    DRAWN = 8
    """Images of the prior by which to measure what the way of the weights does."""

    no_result: ClassVar[str] = "the statistics gave no finite misfit"

    iterations: int = option(300, above=0)
    stages: int = option(4, above=0)
    depth: float = option(0.5, above=0, maximum=1)
    error: float = option(3e-3, above=0)
    memory: int = option(30, above=0)

    def prepare(self, problem: Problem) -> Problem:
        """Return the problem in float32; refuse one without the statistics of one client."""
        seen = problem.observation
        told = observed_statistics(seen, problem.model)
        if not told or seen.recipe.batch_norm != "train":
            raise self.failure(f"{seen.name} carries no batch statistics")
        if seen.view != "client":
            raise self.failure("the statistics of several clients are mixed")
        return problem.to(torch.float32)

    def solve(self, run: Run) -> Solution:
        """Return where the last stage ends, each of which goes on from the one before."""
        problem, prior = run.problem, image_prior(run.problem)
        observed = _observed(problem)
        weights = [interpolated_weights(problem, at) for at in step_positions(problem.observation)]
        drawn = prior.sample(self.DRAWN, generator=generator(run.seed, "way"))
        way = _statistics_drift(problem, drawn, list(observed))
        found: Variables = {"whitened": self._start(problem, run.seed)}
        score = math.inf
        for stage in range(self.stages):
            if stage and run.search.exhausted():
                break
            used = math.ceil(len(observed) * self.depth * (stage + 1) / self.stages)
            found, scores = minimise(
                self._objective(problem, prior, dict(list(observed.items())[:used]), weights, way),
                found,
                LBFGS(memory=self.memory),
                iterations=self.iterations,
                search=run.search,
                recording=Recording(first_restart=stage),
            )
            score = float(scores[0])
            run.search.report((stage + 1) / self.stages)
        return Solution(
            images=prior.colour(found["whitened"][0]),
            labels=recovery.recover(problem),
            score=score,
            notes=(f"statistics of {used} of {len(observed)} batch-norm layers",),
        )

    def update_notes(self, run: Run) -> tuple[str, ...]:
        """Return at which weights the statistics of several steps are taken to be."""
        steps = run.problem.observation.steps
        note = f"{steps} local steps, at weights between those sent and those returned"
        return (note,) if steps > 1 else ()

    def _start(self, problem: Problem, seed: int) -> Tensor:
        """Return (1, B, n) near the mean: alone at it, several apart, as equals stay equal."""
        shape = 1, problem.shape[0], math.prod(problem.shape[1:])
        noise = torch.randn(shape, generator=generator(seed, "start"))
        apart = self.NUDGE if shape[1] > 1 else 0.0
        return (apart * noise).to(problem.device, problem.dtype)

    def _objective(
        self,
        problem: Problem,
        prior: GaussianPrior,
        observed: dict[str, LayerStatistics],
        weights: list[StateDict],
        way: dict[str, StatisticsDrift],
    ) -> Objective:
        layers, batches = list(observed), assumed_batches(problem.observation)
        means = [s.mean for s in observed.values()]
        deviations = [s.variance.clamp_min(0).sqrt() for s in observed.values()]
        units = [self.error * d.clamp_min(MIN_RELATIVE_STD * float(d.mean())) for d in deviations]
        errors = [
            (torch.hypot(unit, way[name].mean), torch.hypot(unit, way[name].deviation))
            for name, unit in zip(layers, units, strict=True)
        ]

        def misfit(whitened: Tensor) -> Tensor:
            images = prior.colour(whitened)
            steps = [images[batch] for batch in batches]
            found = simulated_statistics(problem.model, steps, layers, weights)
            apart = [
                ((s.mean - mean) / of_mean).square().sum()
                + (((s.variance + unit**2).sqrt() - (deviation**2 + unit**2).sqrt()) / of_deviation)
                .square()
                .sum()
                for s, mean, deviation, unit, (of_mean, of_deviation) in zip(
                    found, means, deviations, units, errors, strict=True
                )
            ]
            return torch.stack(apart).sum() + whitened.square().sum()

        return lambda variables: torch.stack([misfit(z) for z in variables["whitened"]])


def _observed(problem: Problem) -> dict[str, LayerStatistics]:
    """Return the statistics of the batches, by layer, in the order of the layers."""
    return {
        n: LayerStatistics(*(v.to(problem.device, problem.dtype) for v in values))
        for n, values in observed_statistics(problem.observation, problem.model).items()
    }


def _statistics_drift(
    problem: Problem, images: Tensor, layers: list[str]
) -> dict[str, StatisticsDrift]:
    """Return how far local training moves the statistics of images, by layer; 0 for one step."""
    if problem.observation.steps == 1:  # its images meet the weights that were sent alone
        return dict.fromkeys(layers, StatisticsDrift(images.new_zeros(()), images.new_zeros(())))
    with torch.no_grad():
        sent, returned = (
            batch_statistics(problem.model, images, layers, interpolated_weights(problem, at))
            for at in images.new_tensor([0.0, 1.0])
        )
    return {
        name: StatisticsDrift(
            (b.mean - a.mean).square().mean().sqrt(),
            (b.variance.sqrt() - a.variance.sqrt()).square().mean().sqrt(),
        )
        for name, a, b in zip(layers, sent, returned, strict=True)
    }
