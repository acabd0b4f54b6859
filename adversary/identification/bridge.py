"""Where the weights may have been at each step, given where they began and ended.

Rehearsals are taken for draws of the client's path, and paths for normally distributed about their
mean. Given the end, the mean path is a regression on it, x(t) = m(t) + B(t) (x(T) - m(T)). What few
rehearsals tell of B is one direction, in which ends spread most (images of which label came last),
and for all others one factor an array: t / T where weights wander at random, less where they are
drawn back. A draw of the path given its end is a rehearsal with the same regression added to it
(Matheron's rule).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from adversary.common.types import StateDict
from adversary.identification.rehearsal import Rehearsal

FEWEST = 8
"""Rehearsals of which a main direction is taken: of fewer too little is left to say how far paths
differ beside it."""


class _Course(NamedTuple):
    """What rehearsals tell of an array before a step.

    Their mean, where a unit of the main direction takes it, and the share of its end beside that
    which is settled.
    """

    mean: Tensor
    main: Tensor
    settled: float


class Bridge:
    """Paths to a given end.

    Parameters
    ----------
    rehearsals : sequence of Rehearsal
        R of them, at least one, all of the same number of steps.
    sent : dict of str to Tensor
        Where each array began.
    moved : dict of str to Tensor
        How far it moved, sent minus returned; what is not observed is not among them.
    """

    def __init__(self, rehearsals: Sequence[Rehearsal], sent: StateDict, moved: StateDict) -> None:
        self.rehearsals = rehearsals
        self.ends = {name: sent[name] - by for name, by in moved.items()}
        self.steps = len(rehearsals[0].weights) - 1
        self._courses: dict[tuple[str, int], _Course] = {}
        count = len(rehearsals)
        products = torch.zeros(count, count, dtype=torch.float64)
        ahead = torch.zeros(count, dtype=torch.float64)
        for name, end in self.ends.items():
            last = torch.stack([one.weights[-1][name].flatten() for one in rehearsals]).double()
            apart = last - last.mean(0)
            products += apart @ apart.T
            ahead += apart @ (end.double().flatten() - last.mean(0))
        spreads, directions = torch.linalg.eigh(products)
        self._main = torch.zeros(count, dtype=torch.float64)
        if count >= FEWEST and spreads[-1] > 0:
            self._main = directions[:, -1]
        # Of an end D'c away from the mean of ends: main'c, which is main_k for rehearsal k.
        self._ahead = float(self._main @ ahead) / max(float(spreads[-1]), 1e-300)

    @property
    def freedom(self) -> int:
        """How many draws differ independently: the mean and the main direction are theirs all."""
        return max(1, len(self.rehearsals) - 1 - bool(self._main.any()))

    def at(self, step: int, own: int | None = None) -> StateDict:
        """Return the mean of where the weights were before a step, or a draw of it.

        Parameters
        ----------
        step : int
            Steps before it, 0 to T.
        own : int, optional
            The rehearsal of which the draw is made; by default the mean is returned.
        """
        far = self._ahead - (0.0 if own is None else float(self._main[own]))

        def drawn(name: str, at: int) -> Tensor:
            course = self._course(name, at)
            here = course.mean if own is None else self.rehearsals[own].weights[at][name]
            return here + far * course.main

        found = {}
        for name, like in self.rehearsals[0].weights[step].items():
            if not like.is_floating_point():
                found[name] = like
                continue
            found[name] = drawn(name, step)
            if name in self.ends:
                missed = self.ends[name].to(like) - drawn(name, self.steps)
                found[name] += self._course(name, step).settled * missed
        return found

    def _course(self, name: str, step: int) -> _Course:
        """Return what rehearsals tell of an array before a step; it is worked out once."""
        if (name, step) not in self._courses:
            first = self.rehearsals[0].weights[step][name]
            mean, main = torch.zeros_like(first), torch.zeros_like(first)
            for share, one in zip(self._main.tolist(), self.rehearsals, strict=True):
                apart = one.weights[step][name] - first  # to the bit where all agree
                mean += apart / len(self.rehearsals)
                main += share * apart
            course = _Course(first + mean, main, 1.0)
            if step < self.steps and name in self.ends:
                settled = self._settled(name, step, course)
                course = course._replace(settled=settled)
            self._courses[name, step] = course
        return self._courses[name, step]

    def _settled(self, name: str, step: int, course: _Course) -> float:
        """Return how far an array is on a way that is not in the main direction.

        As rehearsals show it; where they show nothing, as far as the steps are.
        """
        last, both, whole = self._course(name, self.steps), 0.0, 0.0
        for share, one in zip(self._main.tolist(), self.rehearsals, strict=True):
            here = one.weights[step][name] - course.mean - share * course.main
            there = one.weights[self.steps][name] - last.mean - share * last.main
            both += float((here * there).sum())
            whole += float(there.square().sum())
        return both / whole if whole > 0 else step / self.steps
