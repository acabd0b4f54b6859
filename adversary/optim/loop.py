"""The loop that iterative attacks share: limits, history, best iterate, selection by score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

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


def minimise(
    objective: Objective,
    variables: Variables,
    method: Optimizer,
    *,
    iterations: int,
    search: Search,
    project: Callable[[Variables], None] | None = None,
    first_restart: int = 0,
    keep: str = "best",
    frames: int = 0,
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
    method : Method
        The optimiser.
    iterations : int
        Steps at most.
    search : Search
        Clock, limits, history and how to evaluate; gains one :class:`Step` a candidate and
        iteration.
    project : callable, optional
        Puts the variables back into their allowed set after a step.
    first_restart : int
        Number of the first candidate, for the history.
    keep : {"best", "last"}
        Whether a candidate's result is its best-scored iterate or its last finite one.
    frames : int
        Pictures of each candidate's ``images`` that ``search`` gains, its result among them.

    Returns
    -------
    best : dict of str to Tensor
        (R, ...).
    score : Tensor
        (R,), infinity for a candidate that never had a finite score.
    """
    names = list(variables)
    count = len(variables[names[0]])
    device = variables[names[0]].device

    def scores_and_gradients(*values: Tensor) -> tuple[Tensor, ...]:
        leaves = [value.detach().requires_grad_() for value in values]
        with torch.enable_grad():
            scores = objective(dict(zip(names, leaves, strict=True)))
            return scores.detach(), *torch.autograd.grad(scores.sum(), leaves)

    with matmul_precision(search.precision, device):
        worked_out, note_on_it = prepare_function(
            search.execution,
            scores_and_gradients,
            tuple(variables.values()),
            tolerance=TOLERANCE[search.precision],
        )
    if note_on_it is not None and note_on_it not in search.notes:
        search.notes.append(note_on_it)

    def evaluate(at: Variables) -> Evaluation:
        with matmul_precision(search.precision, device):
            scores, *gradients = worked_out(*(at[n] for n in names))
        search.evaluations += count
        return scores, dict(zip(names, gradients, strict=True))

    best = {n: v.detach().clone() for n, v in variables.items()}
    score = torch.full((count,), torch.inf, device=best[names[0]].device, dtype=torch.float64)
    trace: list[Tensor] = []
    times: list[float] = []
    moments = _frame_iterations(iterations, frames)
    pictures: dict[int, Tensor] = {}

    def note(scores: Tensor) -> None:
        nonlocal score
        better = torch.isfinite(scores)
        if keep == "best":
            better = better & (scores < score)
        score = torch.where(better, scores.double(), score)
        for n in names:
            mask = better.view(-1, *[1] * (best[n].ndim - 1))
            best[n] = torch.where(mask, variables[n].detach(), best[n])
        if len(trace) in moments:
            pictures[len(trace)] = variables["images"].detach().clone()
        trace.append(scores)
        times.append(search.seconds)

    at = evaluate(variables)
    note(at[0])
    for iteration in range(1, iterations + 1):
        if search.exhausted():
            break
        after = method.step(variables, at, evaluate)
        if project is not None:
            project(variables)
            after = None
        at = evaluate(variables) if after is None else after
        note(at[0])
        if iteration % REPORT_EVERY == 0:
            search.report(iteration / iterations)
        if method.stalled():
            search.stopped = "converged"
            break
    rows = torch.stack(trace).double().cpu()
    search.history += [
        IterationRecord(first_restart + r, i, float(rows[i, r]), seconds)
        for r in range(count)
        for i, seconds in enumerate(times)
    ]
    if frames:
        last = len(trace) - 1
        for i in sorted(pictures.keys() - {last}):
            search.frames += _frames(first_restart, i, rows[i], pictures[i])
        search.frames += _frames(first_restart, last, score, best["images"])
    return best, score


def _frame_iterations(iterations: int, frames: int) -> set[int]:
    """Return when to take pictures before the result: denser where most changes, at first."""
    return {round(iterations * (k / (frames - 1)) ** 2) for k in range(frames - 1)}


def _frames(first_restart: int, iteration: int, scores: Tensor, images: Tensor) -> list[Frame]:
    shown = images.clamp(0, 1).float().cpu()
    return [
        Frame(first_restart + r, iteration, float(scores[r]), shown[r]) for r in range(len(shown))
    ]
