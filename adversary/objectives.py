"""Distances between gradients, one value a candidate."""

from __future__ import annotations

import torch
from torch import Tensor

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
    all of them to rounding.
    """
    squares = [found[n].square().flatten(1).sum(1) for n in observed]
    norm = torch.stack(squares).sum(0).sqrt()
    norm = norm.clamp_min(torch.finfo(norm.dtype).tiny)
    scale = torch.stack([g.square().sum() for g in observed.values()]).sum().sqrt()
    apart = [
        (found[n].flatten(1) / norm[:, None] - g.flatten() / scale).square().sum(1)
        for n, g in observed.items()
    ]
    return torch.stack(apart).sum(0) / 2


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
