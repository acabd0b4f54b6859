"""Optimisers of many independent candidates at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from adversary.common import torch_optimizers
from adversary.common.seeding import generator
from adversary.common.types import Variables
from adversary.optim.loop import Evaluation, Optimizer

Schedule = Callable[[int], float]
"""From the step number, from 0, to a factor on the learning rate."""


def step_decay(iterations: int, *, factor: float = 0.1) -> Schedule:
    """Return Geiping's schedule: times ``factor`` after 3/8, 5/8 and 7/8 of the iterations."""
    milestones = [iterations * k / 8 for k in (3, 5, 7)]
    return lambda step: factor ** sum(step >= m for m in milestones)


def one_cycle(iterations: int, *, warm: float = 0.3, low: float = 0.04) -> Schedule:
    """Return a cosine rise over the first ``warm`` share and a cosine fall to nearly 0.

    After Smith and Topin (2018); ``low`` is the factor of the first step.
    """

    def factor(step: int) -> float:
        share = step / max(iterations - 1, 1)
        if share < warm:
            return low + (1 - low) * (1 - _half_cosine(share / warm))
        return max(_half_cosine((share - warm) / (1 - warm)), 1e-4)

    return factor


def warm_cosine(iterations: int, *, warm: int = 50) -> Schedule:
    """Return a linear rise over the first ``warm`` steps, then a cosine fall to nearly 0.

    The schedule of Yin et al. (2021); a run shorter than twice ``warm`` rises over its half.
    """
    rise = min(warm, iterations // 2)

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return max(_half_cosine((step - rise) / max(iterations - rise, 1)), 1e-4)

    return factor


def _half_cosine(share: float) -> float:
    return 0.5 * (1 + float(torch.cos(torch.tensor(share * torch.pi))))


class Adam:
    """Adam (Kingma and Ba 2015), on the signs of the gradient if ``signed``.

    Element-wise, so candidates do not see each other.
    """

    def __init__(
        self, *, lr: float, signed: bool = False, schedule: Schedule | None = None
    ) -> None:
        self.lr, self.signed, self.schedule = lr, signed, schedule
        self.optimiser: torch_optimizers.Adam | None = None
        self.steps = 0

    def step(
        self,
        variables: Variables,
        at: Evaluation,
        evaluate: Callable[[Variables], Evaluation],
    ) -> None:
        """Move ``variables`` in place."""
        if self.optimiser is None:
            self.optimiser = torch_optimizers.Adam(list(variables.values()))
        for name, gradient in at[1].items():
            variables[name].grad = gradient.sign() if self.signed else gradient
        rate = self.lr if self.schedule is None else self.lr * self.schedule(self.steps)
        self.optimiser.step(rate)
        self.steps += 1

    def stalled(self) -> bool:
        """Return False: Adam always moves."""
        return False


class Langevin:
    """Any method, with Gaussian noise added after each step (Yin et al. 2021, algorithm 1).

    Parameters
    ----------
    method : Method
        Moves the variables.
    scale : float
        Standard deviation of the noise, >= 0.
    schedule : Schedule
        Factor on it, by step.
    seed : int
        Of the noise.
    """

    def __init__(self, method: Optimizer, *, scale: float, schedule: Schedule, seed: int) -> None:
        self.method, self.scale, self.schedule = method, scale, schedule
        self.draw = generator(seed, "langevin")
        self.steps = 0

    def step(
        self,
        variables: Variables,
        at: Evaluation,
        evaluate: Callable[[Variables], Evaluation],
    ) -> None:
        """Move ``variables`` in place."""
        self.method.step(variables, at, evaluate)
        spread = self.scale * self.schedule(self.steps)
        for value in variables.values():
            noise = torch.randn(value.shape, generator=self.draw)
            value.add_(noise.to(value.device, value.dtype), alpha=spread)
        self.steps += 1

    def stalled(self) -> bool:
        """Return False: noise always moves."""
        return False


class Projected:
    """Any method, with the variables put back into their allowed set after each step.

    Parameters
    ----------
    method : Optimizer
        Moves the variables.
    project : callable
        Puts them back, in place.
    """

    def __init__(self, method: Optimizer, project: Callable[[Variables], None]) -> None:
        self.method, self.project = method, project

    def step(
        self,
        variables: Variables,
        at: Evaluation,
        evaluate: Callable[[Variables], Evaluation],
    ) -> None:
        """Move ``variables`` in place; what the method evaluated was before they were put back."""
        self.method.step(variables, at, evaluate)
        self.project(variables)

    def stalled(self) -> bool:
        """Return whether the method is."""
        return self.method.stalled()


class LBFGS:
    """Limited-memory BFGS (Liu and Nocedal 1989) with backtracking, for R candidates at once.

    Each candidate has its own curvature pairs, scale and step length. torch.optim.LBFGS holds
    one problem, so it would mix the curvatures of restarts that have nothing in common.

    Parameters
    ----------
    memory : int
        Curvature pairs kept.
    tries : int
        Step lengths tried in a line search; a candidate that finds none begins again with the
        steepest descent, and is done when that fails too.
    """

    ARMIJO = 1e-4

    def __init__(self, *, memory: int = 20, tries: int = 12) -> None:
        self.memory, self.tries = memory, tries
        self.pairs: list[tuple[Tensor, Tensor, Tensor]] = []  # s, y (R, n) and rho (R, 1)
        self.scale: Tensor | None = None  # (R, 1), the initial inverse curvature
        self.failures: Tensor | None = None  # (R, 1), line searches failed in a row

    def step(
        self,
        variables: Variables,
        at: Evaluation,
        evaluate: Callable[[Variables], Evaluation],
    ) -> Evaluation:
        """Move ``variables`` in place; return the evaluation there."""
        score, gradient = at[0][:, None], _flat(at[1])
        if self.failures is None:
            self.failures = torch.zeros_like(score)
        direction = self._direction(gradient)
        slope = (gradient * direction).sum(1, keepdim=True)
        uphill = slope >= 0
        direction = torch.where(uphill, -gradient, direction)
        slope = torch.where(uphill, -gradient.square().sum(1, keepdim=True), slope)
        length = torch.ones_like(score)
        if self.scale is None:
            length = (1 / gradient.abs().sum(1, keepdim=True).clamp_min(1e-30)).clamp_max(1)

        origin = {n: v.detach().clone() for n, v in variables.items()}
        taken = torch.zeros_like(length)
        found_score, found_gradient = score.clone(), gradient.clone()
        for _ in range(self.tries):
            trial = torch.where(taken > 0, taken, length)
            _gather(variables, origin, trial * direction)
            scores, gradients = evaluate(variables)
            new_score, new_gradient = scores[:, None], _flat(gradients)
            enough = new_score <= score + self.ARMIJO * trial * slope  # False for NaN
            fresh = enough & (taken == 0)
            found_score = torch.where(fresh, new_score, found_score)
            found_gradient = torch.where(fresh, new_gradient, found_gradient)
            taken = torch.where(fresh, trial, taken)
            if bool((taken > 0).all()):
                break
            # Minimum of the parabola through both scores and the slope, kept within reason.
            parabola = -slope * length.square() / (2 * (new_score - score - slope * length))
            parabola = torch.where(torch.isfinite(parabola), parabola, 0.1 * length)
            length = torch.clamp(parabola, 0.1 * length, 0.5 * length)
        _gather(variables, origin, taken * direction)
        self._learn(taken * direction, found_gradient - gradient, taken > 0)
        shapes = {n: v.shape for n, v in variables.items()}
        return found_score[:, 0], _unflat(found_gradient, shapes)

    def stalled(self) -> bool:
        """Return whether every candidate failed two line searches in a row."""
        return self.failures is not None and bool((self.failures >= 2).all())

    def _direction(self, gradient: Tensor) -> Tensor:
        """Return -H g by the two-loop recursion."""
        q = -gradient
        alphas = []
        for s, y, rho in reversed(self.pairs):
            alpha = rho * (s * q).sum(1, keepdim=True)
            q = q - alpha * y
            alphas.append(alpha)
        if self.scale is not None:
            q = q * self.scale
        for (s, y, rho), alpha in zip(self.pairs, reversed(alphas), strict=True):
            q = q + (alpha - rho * (y * q).sum(1, keepdim=True)) * s
        return q

    def _learn(self, s: Tensor, y: Tensor, moved: Tensor) -> None:
        """Keep the curvature pair of candidates that moved; forget those that failed."""
        assert self.failures is not None
        sy, yy = (s * y).sum(1, keepdim=True), (y * y).sum(1, keepdim=True)
        convex = moved & (sy > 1e-10 * yy.clamp_min(1e-300))
        # A pair with rho = 0 changes nothing, which lets candidates differ in what they keep.
        rho = torch.where(convex, 1 / sy, 0.0)
        if not bool(moved.all()):
            self.pairs = [(a, b, torch.where(moved, r, 0.0)) for a, b, r in self.pairs]
        self.pairs = [*self.pairs, (s, y, rho)][-self.memory :]
        before = torch.ones_like(sy) if self.scale is None else self.scale
        self.scale = torch.where(convex, sy / yy, before)
        self.failures = torch.where(moved, 0.0, self.failures + 1)


def _flat(parts: Variables) -> Tensor:
    return torch.cat([part.flatten(1) for part in parts.values()], dim=1)


def _unflat(flat: Tensor, shapes: dict[str, torch.Size]) -> Variables:
    sizes = [shape[1:].numel() for shape in shapes.values()]
    pieces = flat.split(sizes, dim=1)
    return {n: p.view(shape) for (n, shape), p in zip(shapes.items(), pieces, strict=True)}


def _gather(variables: Variables, origin: Variables, move: Tensor) -> None:
    moves = _unflat(move, {n: v.shape for n, v in variables.items()})
    with torch.no_grad():
        for name, variable in variables.items():
            variable.copy_(origin[name] + moves[name])
