"""The observed gradient as equations in the pixels, in units of its own noise."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import jvp, vmap

from adversary.problem import Problem
from adversary.seeding import generator


def residuals(
    problem: Problem, targets: Tensor, sample: float, seed: int
) -> Callable[[Tensor], Tensor]:
    """Return x -> (g(x) - g*) / sigma on a sample of the parameters, (m,), of (B, C, H, W)."""
    names = list(problem.gradient)
    unknowns = torch.Size(problem.shape).numel()
    total = sum(problem.gradient[n].numel() for n in names)
    quota = max(1, int(sample * unknowns))
    picks: dict[str, Tensor] = {}
    for name in sorted(names, key=lambda n: problem.gradient[n].numel()):
        size = problem.gradient[name].numel()
        left = len(names) - len(picks)
        take = size if total <= quota else min(size, max(1, quota // left))
        quota -= 0 if total <= quota else take
        draw = generator(seed, "sample", name)
        picks[name] = torch.randperm(size, generator=draw)[:take].to(problem.device)
    sigma = {n: problem.sigma(n) for n in names}
    wanted = {n: problem.gradient[n].flatten()[picks[n]] for n in names}
    weights = problem.parameters

    def residual(x: Tensor) -> Tensor:
        found = problem.expected(weights, x, targets)
        return torch.cat([(found[n].flatten()[picks[n]] - wanted[n]) / sigma[n] for n in names])

    return residual


def jacobian(function: Callable[[Tensor], Tensor], x: Tensor, chunk: int) -> Tensor:
    """Return the Jacobian of ``function`` at ``x``, (m, n), by forward mode, ``chunk`` columns."""
    n = x.numel()
    columns = []
    for first in range(0, n, chunk):
        index = torch.arange(first, min(first + chunk, n), device=x.device)
        basis = torch.zeros(len(index), n, dtype=x.dtype, device=x.device)
        basis[torch.arange(len(index)), index] = 1
        columns.append(vmap(lambda v: jvp(function, (x,), (v,))[1])(basis.view(-1, *x.shape)))
    return torch.cat(columns).T
