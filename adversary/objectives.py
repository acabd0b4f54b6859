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

    Shapes as :func:`squared_distance`; range [0, 2].
    """
    dot = torch.stack([(found[n] * g).flatten(1).sum(1) for n, g in observed.items()]).sum(0)
    norm = torch.stack([found[n].square().flatten(1).sum(1) for n in observed]).sum(0).sqrt()
    scale = torch.stack([g.square().sum() for g in observed.values()]).sum().sqrt()
    return 1 - dot / (norm * scale).clamp_min(torch.finfo(dot.dtype).tiny)
