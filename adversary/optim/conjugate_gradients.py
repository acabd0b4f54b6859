"""Linear equations by products with vectors alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

RELATIVE_RESIDUAL = 1e-6
"""Residual, relative to the right-hand side, at which conjugate gradients end."""


def conjugate_gradients(
    matvec: Callable[[Tensor], Tensor],
    right: Tensor,
    precondition: Callable[[Tensor], Tensor],
    *,
    start: Tensor,
    iterations: int,
    tolerance: float = RELATIVE_RESIDUAL,
) -> tuple[Tensor, bool]:
    """Solve A x = b for symmetric positive definite A, approximately.

    Hestenes and Stiefel 1952, preconditioned. Cut short, x is that of a regularised step, and
    still one downhill.

    Returns
    -------
    Tensor
        x, (n,).
    bool
        Whether the residual came down to ``tolerance`` of b.
    """
    enough = tolerance**2 * (right @ precondition(right)).item()
    x = start.clone()
    residual = right - matvec(x) if bool(x.any()) else right.clone()
    z = precondition(residual)
    direction = z.clone()
    size = (residual @ z).item()
    for _ in range(iterations):
        if size <= enough:
            break
        image = matvec(direction)
        length = size / (direction @ image).item()
        x += length * direction
        residual -= length * image
        z = precondition(residual)
        before, size = size, (residual @ z).item()
        direction = z + size / before * direction
    return x, size <= enough


def batched_conjugate_gradients(
    matvec: Callable[[Tensor], Tensor],
    rights: Tensor,
    precondition: Callable[[Tensor], Tensor],
    *,
    enough: float,
    iterations: int,
) -> tuple[Tensor, bool]:
    """Solve A x = b for several b at once, each by :func:`conjugate_gradients` of its own.

    Parameters
    ----------
    matvec, precondition : callable
        Of rows, (k, n).
    rights : Tensor
        b, (k, n).
    enough : float
        Squared residual, in the metric of the preconditioner, at which they end.
    iterations : int
        At most.

    Returns
    -------
    Tensor
        x, (k, n).
    bool
        Whether all residuals came down to ``enough``.
    """
    x = torch.zeros_like(rights)
    residual = rights.clone()
    z = precondition(residual)
    direction = z.clone()
    size = (residual * z).sum(1, keepdim=True)
    for _ in range(iterations):
        if float(size.max()) <= enough:
            break
        image = matvec(direction)
        along = (direction * image).sum(1, keepdim=True)
        length = torch.where(along > 0, size / along, 0)  # 0 where a row is solved exactly
        x += length * direction
        residual -= length * image
        z = precondition(residual)
        before, size = size, (residual * z).sum(1, keepdim=True)
        direction = z + torch.where(before > 0, size / before, 0) * direction
    return x, bool((size <= enough).all())
