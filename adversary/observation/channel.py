"""What the server knows of a client's defence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from adversary.common.types import StateDict


class Transform(Protocol):
    """Draws what the network saw in place of images (N, C, H, W), as the clients draw it."""

    def __call__(self, images: Tensor, *, generator: torch.Generator) -> Tensor:
        """Return the transformed images, of the same shape."""
        ...


@dataclass(frozen=True)
class Interval:
    """Between what limits the entries of one array of the client's own update lie.

    Parameters
    ----------
    lower, upper : Tensor
        Of the array's shape, in float64: limits of returned minus sent weights (of the gradient,
        where that is what clients return) before the defence; infinite where there is none.
    """

    lower: Tensor
    upper: Tensor


@dataclass(frozen=True, kw_only=True)
class Channel:
    """The defence as an attacker sees it: public parameters, and what they say of one update.

    A defence is agreed on by the whole federation, so the server knows it (Kerckhoffs); only
    its random numbers are the client's own. An empty channel changes nothing.

    Parameters
    ----------
    noise : mapping of str to float
        Standard deviation of the noise on each entry of a returned array, in units of the
        weights, by array; none on those not named.
    clip : float
        L2 norm, in units of the weights, to which the whole update was scaled down where it was
        longer (McMahan et al. 2018).
    example_clip : float
        L2 norm to which the gradient of each image was scaled down (Abadi et al. 2016).
    observed : mapping of str to Tensor
        Boolean masks by array: entries that tell something of the client's training. Arrays not
        named are observed entirely.
    intervals : mapping of str to Interval
        By array, where what was sent stands for all values of an interval, as a level or a sign
        does. ``noise`` then has the deviation of what was sent from the client's own value, for
        those who read it as that value.
    transform : callable, optional
        The clients' policy of augmentation; None where the network saw the images themselves.
    blend : float
        Alpha of the Beta distribution by which clients blended the images of a mini-batch in
        pairs (MixUp); 0 where they did not.
    """

    noise: Mapping[str, float] = field(default_factory=dict)
    clip: float = torch.inf
    example_clip: float = torch.inf
    observed: Mapping[str, Tensor] = field(default_factory=dict)
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    transform: Transform | None = None
    blend: float = 0.0

    def keep(self, arrays: StateDict) -> StateDict:
        """Return ``arrays`` (..., by name) with the entries that tell nothing set to zero."""
        return {
            name: value * self.observed[name].to(value.device) if name in self.observed else value
            for name, value in arrays.items()
        }


def apply_clipping(gradient: StateDict, bound: float | Tensor) -> StateDict:
    """Return a gradient scaled down to the L2 norm ``bound`` over all arrays, where it is longer.

    Differentiable, also at the zero gradient.
    """
    squares = torch.stack([g.square().sum() for g in gradient.values()]).sum()
    norm = squares.clamp_min(torch.finfo(squares.dtype).tiny).sqrt()
    factor = (bound / norm).clamp(max=1)
    return {name: g * factor for name, g in gradient.items()}
