"""SGD and Adam of torch, without its compiler.

The first step of ``torch.optim.SGD`` or ``Adam`` imports ``torch._dynamo``: 1.3 s of a processor in
each process that trains or attacks, longer than a small model's round. The functions that these
classes call, which torch offers as well, do not. A step has the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.optim.adam import adam as torch_adam
from torch.optim.sgd import sgd as torch_sgd


class TorchOptimizer(Protocol):
    """Moves parameters in place."""

    def step(self, lr: float) -> None:
        """Take a step along the gradients; what has none stays."""


class SGD:
    """As ``torch.optim.SGD``, with a learning rate for each step.

    Parameters
    ----------
    parameters : sequence of Tensor
        What is moved.
    momentum, weight_decay : float
        As there.
    """

    def __init__(
        self, parameters: Sequence[Tensor], *, momentum: float = 0.0, weight_decay: float = 0.0
    ) -> None:
        self.parameters = parameters
        self.momentum, self.weight_decay = momentum, weight_decay
        self._velocities: list[Tensor | None] = [None] * len(parameters)

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Take a step along the gradients; what has none stays."""
        moved = _with_gradients(self.parameters)
        velocities = [self._velocities[i] for i in moved]
        torch_sgd(
            [self.parameters[i] for i in moved],
            [_gradient(self.parameters[i]) for i in moved],
            velocities,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            lr=lr,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        for i, velocity in zip(moved, velocities, strict=True):
            self._velocities[i] = velocity


class Adam:
    """As ``torch.optim.Adam``, with a learning rate for each step.

    Parameters
    ----------
    parameters : sequence of Tensor
        What is moved.
    betas, eps, weight_decay : float
        As there.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        self.parameters = parameters
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay
        self._means = [torch.zeros_like(p) for p in parameters]
        self._squares = [torch.zeros_like(p) for p in parameters]
        self._steps = [torch.tensor(0.0) for _ in parameters]

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Take a step along the gradients; what has none stays."""
        moved = _with_gradients(self.parameters)
        torch_adam(
            [self.parameters[i] for i in moved],
            [_gradient(self.parameters[i]) for i in moved],
            [self._means[i] for i in moved],
            [self._squares[i] for i in moved],
            [],
            [self._steps[i] for i in moved],
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=lr,
            weight_decay=self.weight_decay,
            eps=self.eps,
            maximize=False,
        )


def _with_gradients(parameters: Sequence[Tensor]) -> list[int]:
    return [i for i, parameter in enumerate(parameters) if parameter.grad is not None]


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
