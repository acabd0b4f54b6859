"""Attacks that search for images whose update is near to the observed one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor

from adversary.attacks.base import (
    Attack,
    AttackError,
    AttackOptionError,
    require_non_negative,
    require_one_of,
    require_positive,
    update_notes,
)
from adversary.attacks.initial_images import INITIAL_IMAGES
from adversary.common.device_memory import available_bytes, out_of_memory
from adversary.common.results import Reconstruction
from adversary.common.seeding import generator
from adversary.common.types import Variables
from adversary.labels import recovery
from adversary.optim.backends import EXECUTIONS
from adversary.optim.loop import Objective, Optimizer, minimise
from adversary.optim.precision import PRECISIONS
from adversary.optim.search import Limits, Progress, Search
from adversary.problem.problem import Problem
from adversary.problem.update_models import UPDATE_MODELS, UpdateModel, select


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
        One of :data:`STARTS`, or ``"image"``.
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

    dtype: ClassVar[torch.dtype] = torch.float32
    keep: ClassVar[Literal["best", "last"]] = "best"
    label_rule: ClassVar[str] = "consistent"

    def __init__(
        self,
        *,
        iterations: int,
        restarts: int = 1,
        start: str = "randn",
        start_image: Tensor | None = None,
        reading: str = "auto",
        frames: int = 0,
        precision: str = "full",
        execution: str = "eager",
    ) -> None:
        require_positive(self, iterations=iterations, restarts=restarts)
        require_non_negative(self, frames=frames)
        require_one_of(self, "reading", reading, ["auto", *UPDATE_MODELS])
        require_one_of(self, "start", start, [*INITIAL_IMAGES, "image"])
        require_one_of(self, "execution", execution, EXECUTIONS)
        # Float64 is for digits that the others throw away.
        require_one_of(
            self, "precision", precision, PRECISIONS if self.dtype == torch.float32 else ["full"]
        )
        if start == "image" and start_image is None:
            raise AttackOptionError("adversary.start = 'image': adversary.start-image is empty")
        self.iterations = iterations
        self.restarts = restarts
        self.start = start
        self.start_image = start_image
        self.reading = reading
        self.frames = frames
        self.precision = precision
        self.execution = execution

    @abstractmethod
    def objective(self, problem: Problem) -> Objective:
        """Return the function to minimise: from variables to the scores of R candidates, (R,).

        What does not depend on the variables, such as the labels, is worked out here, once.
        """

    @abstractmethod
    def method(self, seed: int) -> Optimizer:
        """Return a fresh optimiser; ``seed`` is for those that draw random numbers."""

    def variables(self, problem: Problem, seeds: list[int]) -> Variables:
        """Return the starts of as many restarts as there are seeds."""
        images = torch.stack([self._start(problem, seed) for seed in seeds])
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

    def run(
        self,
        problem: Problem,
        *,
        seed: int = 0,
        limits: Limits = Limits(),  # noqa: B008
        progress: Progress | None = None,
    ) -> Reconstruction:
        """See :meth:`Attack.run`."""
        problem = problem.to(self.dtype)
        search = self.search(seed, limits, progress)
        best: Variables | None = None
        best_score = torch.inf
        at_once = self.at_once(problem)
        objective = self.objective(problem)
        reading = self.read(problem)
        first = 0
        while first < self.restarts and not (first and search.exhausted()):
            restarts = range(first, min(first + at_once, self.restarts))
            result = self._minimised(problem, objective, reading, restarts, search)
            if result is None:
                at_once = len(restarts) // 2
                search.notes.append(f"memory was short: {at_once} restarts at a time")
                continue
            found, scores = result
            winner = int(scores.argmin())
            if float(scores[winner]) < best_score:
                best_score = float(scores[winner])
                best = {name: value[winner] for name, value in found.items()}
            first = restarts.stop
        if best is None:
            raise AttackError(f"{self.name}: no restart reached a finite score")
        return Reconstruction(
            images=best["images"].clamp(0, 1).float().cpu(),
            labels=self.final_labels(problem, best).cpu(),
            score=best_score,
            seconds=search.seconds,
            evaluations=search.evaluations,
            stopped=search.stopped,
            history=search.history,
            frames=search.frames,
            notes=(*update_notes(problem, reading), *search.notes),
        )

    def search(self, seed: int, limits: Limits, progress: Progress | None) -> Search:
        """Return the books of one run of this attack."""
        return Search(
            self.name, seed, limits, progress, precision=self.precision, execution=self.execution
        )

    def _minimised(
        self,
        problem: Problem,
        objective: Objective,
        reading: UpdateModel,
        restarts: range,
        search: Search,
    ) -> tuple[Variables, Tensor] | None:
        """Return the best of each of these restarts; None where memory is short for so many."""
        try:
            return minimise(
                objective,
                self.variables(problem, [search.seed + r for r in restarts]),
                self.method(search.seed + restarts.start),
                iterations=self.iterations,
                search=search,
                project=_projection(self, reading),
                first_restart=restarts.start,
                keep=self.keep,
                frames=self.frames,
            )
        except Exception as error:
            if len(restarts) == 1 or not out_of_memory(error):
                raise
        return None

    def _start(self, problem: Problem, seed: int) -> Tensor:
        if self.start == "image":
            assert self.start_image is not None
            image = self.start_image.expand(problem.shape).clone()
        else:
            image = INITIAL_IMAGES[self.start](problem, generator(seed, "start"))
        return image.to(problem.device, problem.dtype)


def _projection(
    attack: GradientMatching, reading: UpdateModel
) -> Callable[[Variables], None] | None:
    """Return what puts all variables back into their allowed sets; None where nothing has to."""
    parts = [
        bound
        for bound, base in (
            (attack.project, GradientMatching.project),
            (reading.project, UpdateModel.project),
        )
        if getattr(bound, "__func__", None) is not base
    ]
    if not parts:
        return None

    def project(variables: Variables) -> None:
        for part in parts:
            part(variables)

    return project


def max_parallel_restarts(problem: Problem, restarts: int) -> int:
    """Return how many restarts fit in memory together, at least 1.

    A restart holds its own gradient, the graph behind it and the gradient's gradient: about ten
    times the parameters, and activations that are a few hundred times the images.
    """
    cell = torch.finfo(problem.dtype).bits // 8
    parameters = sum(g.numel() for g in problem.gradient.values())
    pixels = torch.Size(problem.shape).numel()
    each = cell * (10 * parameters + 300 * pixels)
    return max(1, min(restarts, available_bytes(problem.device) // each))
