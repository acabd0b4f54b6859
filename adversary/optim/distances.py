"""Distances between gradients, one value a candidate."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from adversary.common.types import StateDict


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


def cosine_distance(found: StateDict, observed: StateDict, length: Tensor | None = None) -> Tensor:
    """Return 1 - cos(g, g*) over all parameters as one vector (Geiping et al. 2020, eq. 4).

    Shapes as :func:`squared_distance`; range [0, 2], 1/2 for g = 0. Computed as half the squared
    distance of the unit vectors, which is the same number but keeps its digits near 0, where
    1 - cos loses all of them to rounding. Differentiable once, in what was found. Where many
    are compared with one, ``length`` is the :func:`norm` of the observed gradient.
    """
    names = list(observed)
    length = norm(observed) if length is None else length
    return _CosineDistance.apply(
        length, len(names), *(observed[n] for n in names), *(found[n] for n in names)
    )


def norm(gradient: StateDict) -> Tensor:
    """Return the L2 norm of a gradient over all parameters."""
    norms = [torch.linalg.vector_norm(g) for g in gradient.values()]
    return torch.linalg.vector_norm(torch.stack(norms))


class _CosineDistance(torch.autograd.Function):
    """D = ||a g - g*||^2 / (2 ||g*||^2), a = ||g*||/||g||, with its gradient in closed form.

    Automatic differentiation would write and read again each of its terms, of the size of the
    network: more work, for a deep one, than the network's own gradient.
    """

    @staticmethod
    def forward(ctx: Any, length: Tensor, count: int, *gradients: Tensor) -> Tensor:
        observed, found = gradients[:count], gradients[count:]
        norms = [_norms(g) for g in found]
        size = torch.linalg.vector_norm(torch.stack(norms), dim=0)
        factor = torch.where(size > 0, length / size, 0.0)
        apart = [
            _norms(torch.addcmul(g, f, _along(factor, f), value=-1))
            for f, g in zip(found, observed, strict=True)
        ]
        distance = (torch.linalg.vector_norm(torch.stack(apart), dim=0) / length).square() / 2
        ctx.save_for_backward(distance, length, factor, *gradients)
        return distance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        """Return (a (1 - D) g - g*) a / ||g*||^2 for what was found."""
        distance, length, factor, *gradients = ctx.saved_tensors
        count = len(gradients) // 2
        of_observed = outer * factor / length.square()
        of_found = of_observed * factor * (1 - distance)
        slopes = [
            (_along(of_found, f) * f).addcmul_(g.expand_as(f), _along(of_observed, f), value=-1)
            for f, g in zip(gradients[count:], gradients[:count], strict=True)
        ]
        return None, None, *[None] * count, *slopes


def _norms(values: Tensor) -> Tensor:
    return torch.linalg.vector_norm(values.reshape(len(values), -1), dim=1)


def _along(values: Tensor, like: Tensor) -> Tensor:
    """Return one value a candidate, (R,), in a shape that spreads over (R, ...)."""
    return values.view(-1, *[1] * (like.ndim - 1))


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


def array_distance(found: StateDict, observed: StateDict) -> float:
    r"""Return sum_l ||g_l - g*_l||^2 / ||g*_l||^2: every array counts alike, however small.

    Of one candidate, so that both are (...) by parameter. Not to be differentiated.
    """
    return sum(
        float((found[n] - g).square().sum() / g.square().sum().clamp_min(1e-30))
        for n, g in observed.items()
    )
