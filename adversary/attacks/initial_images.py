"""Images that an attack starts from, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from adversary.attacks.options import AttackOptionError
from adversary.problem.problem import Problem


def _randn(problem: Problem, draw: torch.Generator) -> Tensor:
    return 0.5 + 0.25 * torch.randn(problem.shape, generator=draw)


def _rand(problem: Problem, draw: torch.Generator) -> Tensor:
    return torch.rand(problem.shape, generator=draw)


def _zeros(problem: Problem, draw: torch.Generator) -> Tensor:
    return torch.zeros(problem.shape)


def _grey(problem: Problem, draw: torch.Generator) -> Tensor:
    return torch.full(problem.shape, 0.5)


def _mean(problem: Problem, draw: torch.Generator) -> Tensor:
    if problem.prior is None:
        raise AttackOptionError("start = 'mean': there are no public X-rays to average")
    return problem.prior.mean.expand(problem.shape).clone()


INITIAL_IMAGES: dict[str, Callable[[Problem, torch.Generator], Tensor]] = {
    "randn": _randn,
    "rand": _rand,
    "zeros": _zeros,
    "grey": _grey,
    "mean": _mean,
}
"""Images to start from: noise around grey, uniform noise, black, grey, the mean public X-ray."""
