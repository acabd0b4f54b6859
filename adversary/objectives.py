"""Distances between gradients, one value a candidate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from adversary.observation import StateDict


def squared_distance(found: StateDict, observed: StateDict) -> Tensor:
    r"""Return ||g - g*||^2 / ||g*||^2 over all parameters (DLG, Zhu et al. 2019, eq. 4).

    The division makes one learning rate and one tolerance fit every model and round.

    Parameters
    ----------
    found : dict of str to Tensor
        (R, ...) by parameter.
    observed : dict of str to Tensor
        (...) by parameter.

    Returns
    -------
    Tensor
        (R,), 0 at the observed gradient.
    """
    squares = [(found[n] - g).square().flatten(1).sum(1) for n, g in observed.items()]
    scale = torch.stack([g.square().sum() for g in observed.values()]).sum()
    return torch.stack(squares).sum(0) / scale


def cosine_distance(found: StateDict, observed: StateDict) -> Tensor:
    """Return 1 - cos(g, g*) over all parameters as one vector (Geiping et al. 2020, eq. 4).

    Shapes as :func:`squared_distance`; range [0, 2]. Computed as half the squared distance of
    the unit vectors, which is the same number but keeps its digits near 0, where 1 - cos loses
    all of them to rounding. Can be differentiated once.
    """
    pairs = [(found[name], value) for name, value in observed.items()]
    gradients, targets = zip(*pairs, strict=True)
    return _CosineDistance.apply(targets, *gradients)


class _CosineDistance(torch.autograd.Function):
    """Cosine distance with its derivative in closed form.

    With unit vectors u and u* and d = |u - u*|^2 / 2, the derivative in g is (u (1 - d) - u*)/|g|.
    Gradients of deep models are far larger than the caches, so what counts is how often they are
    read: a few times here, and about fifteen by the graph of the same formula.
    """

    @staticmethod
    def forward(ctx: Any, targets: tuple[Tensor, ...], *gradients: Tensor) -> Tensor:
        norm = _length(gradients)
        norm = norm.clamp_min(torch.finfo(norm.dtype).tiny)
        scale = _length([t[None] for t in targets])
        apart = _length(
            [
                (g / _beside(norm, g)).addcdiv_(t, _beside(scale, g), value=-1)
                for g, t in zip(gradients, targets, strict=True)
            ]
        )
        distance = apart.square() / 2
        ctx.save_for_backward(distance, norm, scale, *targets, *gradients)
        return distance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weight: Tensor) -> tuple[Tensor | None, ...]:
        distance, norm, scale, *both = ctx.saved_tensors
        targets, gradients = both[: len(both) // 2], both[len(both) // 2 :]
        own, other = weight * (1 - distance) / norm.square(), weight / (norm * scale)
        return (
            None,
            *(
                (g * _beside(own, g)).addcmul_(t, _beside(other, g), value=-1)
                for g, t in zip(gradients, targets, strict=True)
            ),
        )


def _length(parts: Sequence[Tensor]) -> Tensor:
    """Return the Euclidean lengths of R vectors, (R,), given in parts (R, ...)."""
    each = [torch.linalg.vector_norm(part.reshape(len(part), -1), dim=1) for part in parts]
    return torch.linalg.vector_norm(torch.stack(each), dim=0)


def _beside(value: Tensor, gradient: Tensor) -> Tensor:
    """Return (R,) values in a shape that multiplies (R, ...)."""
    return value.view(-1, *[1] * (gradient.ndim - 1))


def layer_distance(found: StateDict, observed: StateDict) -> Tensor:
    r"""Return sum_l ||g_l - g*_l|| / sum_l ||g*_l|| (GradInversion, Yin et al. 2021, eq. 3).

    Norms, not squares, parameter by parameter; the division is as in :func:`squared_distance`,
    and so are the shapes.
    """
    # vector_norm is differentiable at 0, unlike the square root of a sum of squares
    norms = [
        torch.linalg.vector_norm((found[n] - g).flatten(1), dim=1) for n, g in observed.items()
    ]
    scale = torch.stack([torch.linalg.vector_norm(g) for g in observed.values()]).sum()
    return torch.stack(norms).sum(0) / scale
