"""Attacks that search for images whose update is near to the observed one."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from adversary.attacks.base import Attack, Run
from adversary.attacks.initial_images import INITIAL_IMAGES
from adversary.attacks.options import AttackOptionError, joined, option
from adversary.common.convert import Value
from adversary.common.device_memory import available_bytes, out_of_memory
from adversary.common.results import Solution
from adversary.common.seeding import generator
from adversary.common.types import Variables
from adversary.labels import recovery
from adversary.optim.backends import EXECUTIONS
from adversary.optim.loop import Objective, Optimizer, Recording, minimise
from adversary.optim.optimizers import Projected
from adversary.optim.precision import PRECISIONS
from adversary.optim.search import Limits, Progress, Search
from adversary.problem.problem import Problem
from adversary.problem.update_models import UPDATE_MODELS, UpdateModel, select


@dataclass(frozen=True, kw_only=True, eq=False)
class GradientMatching(Attack):
    """Minimise a distance between the gradient of dummy images and the observed one.

    Parameters
    ----------
    iterations : int
        Optimiser steps of each restart.
    restarts : int
        Independent starts; the one with the best own score is returned. They run as one batch
        where memory allows.
    start : str
        One of :data:`~adversary.attacks.initial_images.INITIAL_IMAGES`, or ``"image"``; or several
        joined by ``+``, which the restarts take in turn.
    start_image : Tensor, optional
        (C, H, W) or (B, C, H, W) in [0, 1], for ``start="image"``.
    reading : str
        How an update of several local steps is read: a key of
        :data:`~adversary.problem.update_models.UPDATE_MODELS`, or ``"auto"``.
    frames : int
        Pictures of the process to keep of each restart, >= 0.
    precision : str
        Arithmetic of attacks that compute in float32: a key of
        :data:`~adversary.optim.precision.PRECISIONS`.
    execution : str
        How evaluations are carried out: a key of :data:`~adversary.optim.backends.EXECUTIONS`.
        Where an objective cannot be compiled or captured, they are plain ones, and a note says so.
    """

    no_result: ClassVar[str] = "no restart reached a finite score"
    dtype: ClassVar[torch.dtype] = torch.float32
    keep: ClassVar[Literal["best", "last"]] = "best"
    label_rule: ClassVar[str] = "consistent"

    iterations: int = option(above=0)
    restarts: int = option(1, above=0)
    start: str = option("randn", choices=lambda: [*INITIAL_IMAGES, "image"], several=True)
    start_image: Tensor | None = None
    reading: str = option("auto", choices=lambda: ["auto", *UPDATE_MODELS])
    frames: int = option(0, minimum=0)
    precision: str = option("full", choices=lambda: PRECISIONS)
    execution: str = option("eager", choices=lambda: EXECUTIONS)

    def __post_init__(self) -> None:
        super().__post_init__()
        # Float64 is for digits that the others throw away.
        if self.dtype != torch.float32 and self.precision != "full":
            raise AttackOptionError(
                f"{self.name}.precision = {self.precision!r}: must be one of full"
            )
        if "image" in self.starts and self.start_image is None:
            raise AttackOptionError("adversary.start = 'image': adversary.start-image is empty")
        if self.restarts < len(self.starts):
            raise AttackOptionError(
                f"{self.name}.restarts = {self.restarts}: each of the {len(self.starts)} images to "
                f"start from needs one; must be >= {len(self.starts)}"
            )

    @property
    def starts(self) -> tuple[str, ...]:
        """The images that restarts begin from, in turn."""
        return joined(self.start)

    def start_of(self, restart: int) -> str:
        """Return the name of the image that a restart begins from."""
        return self.starts[restart % len(self.starts)]

    def trial_options(self, trial: int) -> dict[str, Value]:
        """Return the options of one restart: of several starts, its own."""
        return super().trial_options(trial) | {"start": self.start_of(trial)}

    @abstractmethod
    def objective(self, problem: Problem) -> Objective:
        """Return the function to minimise: from variables to the scores of R candidates, (R,).

        What does not depend on the variables, such as the labels, is worked out here, once.
        """

    @abstractmethod
    def method(self, seed: int) -> Optimizer:
        """Return a fresh optimiser; ``seed`` is for those that draw random numbers."""

    def variables(self, problem: Problem, seeds: list[int], *, first: int = 0) -> Variables:
        """Return the starts of as many restarts as there are seeds, the first of this number."""
        images = torch.stack(
            [self._start(problem, seed, restart) for restart, seed in enumerate(seeds, first)]
        )
        return {"images": images, **self.read(problem).variables(problem, len(seeds))}

    def read(self, problem: Problem) -> UpdateModel:
        """Return how this attack reads the update."""
        return select(self.reading, problem.observation)

    def project(self, variables: Variables) -> None:
        """Put variables back into their allowed set; nothing by default."""

    def final_labels(self, problem: Problem, variables: Variables) -> Tensor:
        """Return the labels of one candidate, given without the leading dimension."""
        return recovery.recover(problem, self.label_rule)

    def targets(self, problem: Problem) -> Tensor:
        """Return the granted or recovered labels as targets of the loss, (B, outputs)."""
        return problem.targets(recovery.recover(problem, self.label_rule))

    def at_once(self, problem: Problem) -> int:
        """Return how many restarts to run together."""
        return max_parallel_restarts(problem, self.restarts)

    def prepare(self, problem: Problem) -> Problem:
        """Return the problem in :attr:`dtype`."""
        return problem.to(self.dtype)

    def solve(self, run: Run) -> Solution:
        """Return the best of all restarts, as many at a time as memory allows."""
        best, best_score, first = None, torch.inf, 0
        at_once = self.at_once(run.problem)
        objective = self.objective(run.problem)
        while first < self.restarts and not (first and run.search.exhausted()):
            restarts = range(first, min(first + at_once, self.restarts))
            result = self._minimised(run, objective, restarts)
            if result is None:
                at_once = len(restarts) // 2
                run.search.notes.append(f"memory was short: {at_once} restarts at a time")
                continue
            found, scores = result
            winner = int(scores.argmin())
            if float(scores[winner]) < best_score:
                best_score = float(scores[winner])
                best = {name: value[winner] for name, value in found.items()}
            first = restarts.stop
        if best is None:
            raise self.failure(self.no_result)
        labels = self.final_labels(run.problem, best)
        return Solution(images=best["images"], labels=labels, score=best_score)

    def search(self, seed: int, limits: Limits, progress: Progress | None) -> Search:
        """Return the books of one run of this attack."""
        books = super().search(seed, limits, progress)
        return dataclasses.replace(books, precision=self.precision, execution=self.execution)

    def _minimised(
        self, run: Run, objective: Objective, restarts: range
    ) -> tuple[Variables, Tensor] | None:
        """Return the best of each of these restarts; None where memory is short for so many."""
        try:
            return minimise(
                objective,
                self.variables(run.problem, [run.seed + r for r in restarts], first=restarts.start),
                self._projected(self.method(run.seed + restarts.start), run.problem),
                iterations=self.iterations,
                search=run.search,
                recording=Recording(
                    first_restart=restarts.start, keep=self.keep, frames=self.frames
                ),
            )
        except Exception as error:
            if len(restarts) == 1 or not out_of_memory(error):
                raise
        return None

    def _projected(self, method: Optimizer, problem: Problem) -> Optimizer:
        """Return a method that keeps all variables in their allowed sets, where they have any."""
        for bound, base in (
            (self.project, GradientMatching.project),
            (self.read(problem).project, UpdateModel.project),
        ):
            if getattr(bound, "__func__", None) is not base:
                method = Projected(method, bound)
        return method

    def _start(self, problem: Problem, seed: int, restart: int) -> Tensor:
        name = self.start_of(restart)
        if name == "image":
            assert self.start_image is not None
            image = self.start_image.expand(problem.shape).clone()
        else:
            image = INITIAL_IMAGES[name](problem, generator(seed, "start"))
        return image.to(problem.device, problem.dtype)


def max_parallel_restarts(problem: Problem, restarts: int) -> int:
    """Return how many restarts fit in memory together, at least 1.

    A restart holds its own gradient, the graph behind it and the gradient's gradient: about ten
    times the parameters, and activations that are a few hundred times the images.
    """
    if restarts == 1:
        return 1
    cell = torch.finfo(problem.dtype).bits // 8
    parameters = sum(g.numel() for g in problem.gradient.values())
    pixels = torch.Size(problem.shape).numel()
    each = cell * (10 * parameters + 300 * pixels)
    return max(1, min(restarts, available_bytes(problem.device) // each))
