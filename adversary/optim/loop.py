"""The loop that iterative attacks share: limits, history, best iterate, selection by score."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from adversary.common.results import Frame, Step
from adversary.optim.backends import prepared
from adversary.optim.precision import TOLERANCE, precisely

Variables = dict[str, Tensor]
"""What is optimised: tensors whose first dimension counts R independent candidates."""

Objective = Callable[[Variables], Tensor]
"""From variables to (R,) scores, lower is better."""

Evaluation = tuple[Tensor, Variables]
"""(R,) scores and the gradient of each with respect to its own variables."""

Progress = Callable[[str, float], None]
"""Called with the attack's name and the share of its work that is done, 0 to 1."""

LOOK_EVERY = 20  # iterations between reports of progress


@dataclass(frozen=True)
class Limits:
    """What one attack may spend; None is no limit."""

    seconds: float | None = None
    evaluations: int | None = None


class Method(Protocol):
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


@dataclass
class Search:
    """One attack's clock, limits, randomness and history, over all its phases and restarts.

    ``precision`` and ``execution`` are how its evaluations are worked out, one of
    :data:`~adversary.optim.precision.PRECISIONS` and of
    :data:`~adversary.optim.backends.EXECUTIONS`; ``notes`` is what there is to say of it.
    """

    name: str
    seed: int
    limits: Limits = Limits()
    progress: Progress | None = None
    precision: str = "full"
    execution: str = "eager"
    started: float = field(default_factory=time.monotonic)
    evaluations: int = 0
    stopped: str = "iterations"
    history: list[Step] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Seconds since the attack began."""
        return time.monotonic() - self.started

    def exhausted(self) -> bool:
        """Return whether a limit is reached, and note which."""
        if self.limits.seconds is not None and self.seconds >= self.limits.seconds:
            self.stopped = "seconds"
            return True
        if self.limits.evaluations is not None and self.evaluations >= self.limits.evaluations:
            self.stopped = "evaluations"
            return True
        return False

    def report(self, share: float) -> None:
        """Tell whoever asked how far the attack is."""
        if self.progress is not None:
            self.progress(self.name, share)


def minimise(
    objective: Objective,
    variables: Variables,
    method: Method,
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

    with precisely(search.precision, device):
        worked_out, note_on_it = prepared(
            search.execution,
            scores_and_gradients,
            tuple(variables.values()),
            tolerance=TOLERANCE[search.precision],
        )
    if note_on_it is not None and note_on_it not in search.notes:
        search.notes.append(note_on_it)

    def evaluate(at: Variables) -> Evaluation:
        with precisely(search.precision, device):
            scores, *gradients = worked_out(*(at[n] for n in names))
        search.evaluations += count
        return scores, dict(zip(names, gradients, strict=True))

    best = {n: v.detach().clone() for n, v in variables.items()}
    score = torch.full((count,), torch.inf, device=best[names[0]].device, dtype=torch.float64)
    trace: list[Tensor] = []
    times: list[float] = []
    moments = _moments(iterations, frames)
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
        if iteration % LOOK_EVERY == 0:
            search.report(iteration / iterations)
        if method.stalled():
            search.stopped = "converged"
            break
    rows = torch.stack(trace).double().cpu()
    search.history += [
        Step(first_restart + r, i, float(rows[i, r]), seconds)
        for r in range(count)
        for i, seconds in enumerate(times)
    ]
    if frames:
        last = len(trace) - 1
        for i in sorted(pictures.keys() - {last}):
            search.frames += _frames(first_restart, i, rows[i], pictures[i])
        search.frames += _frames(first_restart, last, score, best["images"])
    return best, score


def _moments(iterations: int, frames: int) -> set[int]:
    """Return when to take pictures before the result: denser where most changes, at first."""
    return {round(iterations * (k / (frames - 1)) ** 2) for k in range(frames - 1)}


def _frames(first_restart: int, iteration: int, scores: Tensor, images: Tensor) -> list[Frame]:
    shown = images.clamp(0, 1).float().cpu()
    return [
        Frame(first_restart + r, iteration, float(scores[r]), shown[r]) for r in range(len(shown))
    ]
