"""The loop that iterative attacks share: limits, history, best iterate, selection by score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from adversary.common.results import Frame, IterationRecord
from adversary.common.types import Variables
from adversary.optim.backends import prepare_function
from adversary.optim.precision import TOLERANCE, matmul_precision
from adversary.optim.search import Search

Objective = Callable[[Variables], Tensor]
"""From variables to (R,) scores, lower is better."""

Evaluation = tuple[Tensor, Variables]
"""(R,) scores and the gradient of each with respect to its own variables."""

REPORT_EVERY = 20  # iterations between reports of progress


class Optimizer(Protocol):
    """An optimiser of R independent candidates at once."""

    def step(
        self,
        variables: Variables,
        at: Evaluation,
        evaluate: Callable[[Variables], Evaluation],
    ) -> Evaluation | None:
        """Move ``variables`` in place, given their evaluation.

        Returns the evaluation at the new place where the method needed it anyway, else None.
        """

    def stalled(self) -> bool:
        """Return whether no candidate can be improved any more."""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What a search keeps of the candidates of one minimisation.

    Parameters
    ----------
    first_restart : int
        Number of the first candidate, for the history.
    keep : {"best", "last"}
        Whether a candidate's result is its best-scored iterate or its last finite one.
    frames : int
        Pictures of each candidate's ``images``, its result among them.
    """

    first_restart: int = 0
    keep: Literal["best", "last"] = "best"
    frames: int = 0


def minimise(
    objective: Objective,
    variables: Variables,
    method: Optimizer,
    *,
    iterations: int,
    search: Search,
    recording: Recording | None = None,
) -> tuple[Variables, Tensor]:
    """Minimise ``objective`` for all candidates at once and return each one's best iterate.

    Scores stay on the device until the end, so that a GPU is never waited for inside the loop.
    A candidate whose score is not finite keeps its last finite best, or the score infinity.

    Parameters
    ----------
    objective : callable
        Scores of independent candidates; their sum is differentiated.
    variables : dict of str to Tensor
        Starts, (R, ...); moved in place.
    method : Optimizer
        The optimiser.
    iterations : int
        Steps at most.
    search : Search
        Clock, limits, history and how to evaluate; gains one :class:`IterationRecord` a candidate
        and iteration.
    recording : Recording, optional
        What it gains besides, and which iterate is a candidate's result.

    Returns
    -------
    best : dict of str to Tensor
        (R, ...).
    score : Tensor
        (R,), infinity for a candidate that never had a finite score.
    """
    evaluate = _Evaluator(objective, variables, search)
    trace = _Trace(variables, iterations, search, recording or Recording())
    at = evaluate(variables)
    trace.note(variables, at[0])
    for iteration in range(1, iterations + 1):
        if search.exhausted():
            break
        after = method.step(variables, at, evaluate)
        at = evaluate(variables) if after is None else after
        trace.note(variables, at[0])
        if iteration % REPORT_EVERY == 0:
            search.report(iteration / iterations)
        if method.stalled():
            search.stopped = "converged"
            break
    trace.close()
    return trace.best, trace.score


class _Evaluator:
    """From variables to scores and gradients, carried out as a search asks for."""

    def __init__(self, objective: Objective, variables: Variables, search: Search) -> None:
        self._names, self._search = list(variables), search
        first = variables[self._names[0]]
        self._count, self._device = len(first), first.device

        def scores_and_gradients(*values: Tensor) -> tuple[Tensor, ...]:
            leaves = [value.detach().requires_grad_() for value in values]
            with torch.enable_grad():
                scores = objective(dict(zip(self._names, leaves, strict=True)))
                return scores.detach(), *torch.autograd.grad(scores.sum(), leaves)

        with matmul_precision(search.precision, self._device):
            self._function, note = prepare_function(
                search.execution,
                scores_and_gradients,
                tuple(variables.values()),
                tolerance=TOLERANCE[search.precision],
            )
        if note is not None and note not in search.notes:
            search.notes.append(note)

    def __call__(self, at: Variables) -> Evaluation:
        with matmul_precision(self._search.precision, self._device):
            scores, *gradients = self._function(*(at[n] for n in self._names))
        self._search.evaluations += self._count
        return scores, dict(zip(self._names, gradients, strict=True))


class _Trace:
    """Each candidate's best iterate so far, and what the history will say."""

    def __init__(
        self, variables: Variables, iterations: int, search: Search, recording: Recording
    ) -> None:
        self.best = {n: v.detach().clone() for n, v in variables.items()}
        first = next(iter(self.best.values()))
        self.score = torch.full((len(first),), torch.inf, device=first.device, dtype=torch.float64)
        self._search, self._recording = search, recording
        self._scores: list[Tensor] = []
        self._times: list[float] = []
        self._moments = _frame_iterations(iterations, recording.frames)
        self._pictures: dict[int, Tensor] = {}

    def note(self, variables: Variables, scores: Tensor) -> None:
        """Take in the scores of an iteration."""
        better = torch.isfinite(scores)
        if self._recording.keep == "best":
            better = better & (scores < self.score)
        self.score = torch.where(better, scores.double(), self.score)
        for n, kept in self.best.items():
            mask = better.view(-1, *[1] * (kept.ndim - 1))
            self.best[n] = torch.where(mask, variables[n].detach(), kept)
        if len(self._scores) in self._moments:
            self._pictures[len(self._scores)] = variables["images"].detach().clone()
        self._scores.append(scores)
        self._times.append(self._search.seconds)

    def close(self) -> None:
        """Write the history, and the pictures that were asked for, into the search."""
        rows = torch.stack(self._scores).double().cpu()
        first, last = self._recording.first_restart, len(rows) - 1
        self._search.history += [
            IterationRecord(first + r, i, float(rows[i, r]), seconds)
            for r in range(rows.shape[1])
            for i, seconds in enumerate(self._times)
        ]
        if self._recording.frames:
            for i in sorted(self._pictures.keys() - {last}):
                self._search.frames += _frames(first, i, rows[i], self._pictures[i])
            self._search.frames += _frames(first, last, self.score, self.best["images"])


def _frame_iterations(iterations: int, frames: int) -> set[int]:
    """Return when to take pictures before the result: denser where most changes, at first."""
    return {round(iterations * (k / (frames - 1)) ** 2) for k in range(frames - 1)}


def _frames(first_restart: int, iteration: int, scores: Tensor, images: Tensor) -> list[Frame]:
    shown = images.clamp(0, 1).float().cpu()
    return [
        Frame(first_restart + r, iteration, float(scores[r]), shown[r]) for r in range(len(shown))
    ]
