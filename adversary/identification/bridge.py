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

import torch
from torch import Tensor

from adversary.common.types import StateDict
from adversary.identification.rehearsal import Rehearsal

FEWEST = 8
"""Rehearsals of which a main direction is taken: of fewer too little is left to say how far paths
differ beside it."""


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
        self._factors: dict[tuple[str, int], float] = {}
        count = len(rehearsals)
        products = torch.zeros(count, count, dtype=torch.float64)
        ahead = torch.zeros(count, dtype=torch.float64)
        for name, end in self.ends.items():
            last = self._at(name, self.steps).double()
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
        count = len(self.rehearsals)
        if own is None:
            shares, far = torch.full((count,), 1 / count), self._ahead
        else:
            shares = torch.zeros(count)
            shares[own], far = 1.0, self._ahead - float(self._main[own])
        shares = shares + (far * self._main).float()
        return {name: self._array(name, step, shares) for name in self.rehearsals[0].weights[0]}

    def _array(self, name: str, step: int, shares: Tensor) -> Tensor:
        like = self.rehearsals[0].weights[step][name]
        if not like.is_floating_point():
            return like
        here = self._mean(name, step, shares)
        if name not in self.ends:
            return here
        there = self._mean(name, self.steps, shares)
        return here + self._factor(name, step) * (self.ends[name].to(like) - there)

    def _mean(self, name: str, step: int, shares: Tensor) -> Tensor:
        """Return the mean of an array over rehearsals with these weights, whose sum is 1."""
        first = self.rehearsals[0].weights[step][name]
        apart = self._at(name, step) - first.flatten()  # to the bit where all agree
        return first + (shares.to(first) @ apart).view_as(first)

    def _at(self, name: str, step: int) -> Tensor:
        """Return where an array was in each rehearsal, (R, entries)."""
        return torch.stack([one.weights[step][name].flatten() for one in self.rehearsals])

    def _factor(self, name: str, step: int) -> float:
        """Return how far an array is on a way that is not in the main direction.

        As rehearsals show it; where they show nothing, as far as the steps are.
        """
        if (name, step) not in self._factors:
            here, there = (self._beside(self._at(name, one)) for one in (step, self.steps))
            whole = float(there.square().sum())
            share = float((here * there).sum()) / whole if whole > 0 else step / self.steps
            self._factors[name, step] = share
        return self._factors[name, step]

    def _beside(self, values: Tensor) -> Tensor:
        """Return what is left of values' differences without the main direction, (R, entries)."""
        apart, main = values - values.mean(0), self._main.to(values)
        return apart - main[:, None] * (main @ apart)
