"""Gauss-Newton on the gradient, down to the noise of the observation."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from adversary import labels
from adversary.attacks.base import STARTS, Attack, AttackError, AttackOptionError, positive
from adversary.optimise import Limits, Progress, Search
from adversary.problem import Problem
from adversary.reconstruction import Reconstruction, Step
from adversary.residuals import jacobian, residuals
from adversary.seeding import generator

MEMORY_BYTES = 8 * 2**30
"""What the dense Jacobian and normal equations may take together."""


class GaussNewton(Attack):
    """Levenberg-Marquardt on residuals in units of the observation's own noise.

    The weighted residuals r(x) = (g(x) - g*) / sigma, with sigma of each layer the rounding of
    the numbers that the client sent, have a chi-square that tells the attacker, without the
    truth, whether it has succeeded: about 1 a residual at the noise floor, as little as that only
    by the right images. For smooth activations (sigmoid, GELU, SiLU) the gradient is a smooth
    function of the images and a handful of steps reach that floor; a ReLU's gradient jumps where
    a unit switches, and steps stop at the jumps.

    Nocedal and Wright, "Numerical Optimization" (2006), chapter 10. The Jacobian comes from
    forward- over reverse-mode differentiation, a batch of pixels at a time, in float64. Of the
    parameters a random sample is matched, spread over all layers: more equations than pixels are
    enough.

    Parameters
    ----------
    iterations : int
        Accepted steps at most.
    sample : float
        Equations matched for every unknown pixel, > 1; all where there are fewer.
    restarts : int
        Starts from different seeds until one reaches the noise floor.
    start : str
        One of the common starts; grey by default.
    """

    name: ClassVar[str] = "gauss-newton"
    title: ClassVar[str] = "Gauss-Newton to the noise floor"
    reference: ClassVar[str] = "Nocedal and Wright 2006, chapter 10"

    FLOOR = 2.0
    """Reduced chi-square at which the noise floor counts as reached."""

    GAIN = 1.2
    """By how much a step at the floor must divide the chi-square for another to follow."""

    CHUNK = 64
    """Columns of the Jacobian worked out together."""

    def __init__(
        self, *, iterations: int = 40, sample: float = 4.0, restarts: int = 1, start: str = "grey"
    ) -> None:
        positive(self, iterations=iterations, restarts=restarts, sample=sample)
        if start not in STARTS:
            allowed = ", ".join(STARTS)
            raise AttackOptionError(f"{self.name}.start = {start!r}: must be one of {allowed}")
        self.iterations = iterations
        self.sample = sample
        self.restarts = restarts
        self.start = start

    def run(
        self,
        problem: Problem,
        *,
        seed: int = 0,
        limits: Limits = Limits(),  # noqa: B008 (frozen)
        progress: Progress | None = None,
    ) -> Reconstruction:
        """See :meth:`adversary.attacks.base.Attack.run`."""
        problem = problem.to(torch.float64)
        search = Search(self.name, seed, limits, progress)
        found_labels = labels.recover(problem)
        self._check_memory(problem)
        residual = residuals(problem, problem.targets(found_labels), self.sample, seed)
        best, best_chi = None, torch.inf
        for restart in range(self.restarts):
            x = self._start(problem, seed + restart)
            x, chi = self._descend(residual, x, search, restart)
            if chi < best_chi:
                best, best_chi = x, chi
            if best_chi < self.FLOOR or search.exhausted():
                break
        if best is None:
            raise AttackError(f"{self.name}: no start gave a finite residual")
        reached = "the noise floor is reached" if best_chi < self.FLOOR else "above the noise floor"
        return Reconstruction(
            images=best.clamp(0, 1).float().cpu(),
            labels=found_labels.cpu(),
            score=best_chi,
            seconds=search.seconds,
            evaluations=search.evaluations,
            stopped=search.stopped,
            history=search.history,
            notes=(f"reduced chi-square {best_chi:.3g}: {reached}",),
        )

    def _check_memory(self, problem: Problem) -> None:
        unknowns = torch.Size(problem.shape).numel()
        matched = sum(g.numel() for g in problem.gradient.values())
        rows = min(matched, int(self.sample * unknowns))
        needed = 8 * unknowns * (2 * rows + 2 * unknowns)  # Jacobian twice while it is joined
        if needed > MEMORY_BYTES:
            raise AttackError(
                f"{self.name}: {unknowns} unknown pixels need {needed / 2**30:.0f} GiB, at most "
                f"{MEMORY_BYTES / 2**30:.0f} are taken; attack smaller batches or images"
            )

    def _start(self, problem: Problem, seed: int) -> Tensor:
        x = STARTS[self.start](problem, generator(seed, "start"))
        if problem.shape[0] > 1:  # images of equal label must not start equal
            x = x + 0.02 * torch.randn(problem.shape, generator=generator(seed, "nudge"))
        return x.to(problem.device, problem.dtype)

    def _descend(
        self, residual: Callable[[Tensor], Tensor], x: Tensor, search: Search, restart: int
    ) -> tuple[Tensor, float]:
        """Return the images and the reduced chi-square where the steps end."""
        r = residual(x)
        cost, before, damping = float(r @ r), torch.inf, 1e-2
        scale = 1 / max(len(r) - x.numel(), 1)
        search.history.append(Step(restart, 0, cost * scale, search.seconds))
        for iteration in range(1, self.iterations + 1):
            # At the floor the last digits still count: one more step while it pays.
            if cost * scale < self.FLOOR and before < self.GAIN * cost:
                search.stopped = "converged"
                break
            if search.exhausted():
                break
            J = jacobian(residual, x, self.CHUNK)
            search.evaluations += x.numel()
            normal, gradient = J.T @ J, J.T @ r
            shift = normal.diagonal().mean()
            for _ in range(12):
                damped = normal.clone()
                damped.diagonal().add_(damping * shift)
                factor, failed = torch.linalg.cholesky_ex(damped)
                if int(failed):
                    damping *= 4
                    continue
                step = -torch.cholesky_solve(gradient[:, None], factor)[:, 0]
                moved = x + step.view_as(x)
                r_moved = residual(moved)
                search.evaluations += 1
                cost_moved = float(r_moved @ r_moved)
                if cost_moved < cost:
                    before, x, r, cost = cost, moved, r_moved, cost_moved
                    damping /= 6
                    break
                damping *= 4
            else:
                search.stopped = "converged"
                break
            search.history.append(Step(restart, iteration, cost * scale, search.seconds))
            search.report(iteration / self.iterations)
        return x, cost * scale
