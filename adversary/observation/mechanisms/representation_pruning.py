"""Soteria: the encodings that tell most of an image leave the last layer's update."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import jvp, vmap

from adversary.common.types import StateDict
from adversary.observation.channel import Channel
from adversary.observation.observation import Observation

PROBES = 64
"""Random directions by which sensitivities are estimated."""
_AT_ONCE = 16


def prune_columns(
    sent: StateDict, returned: StateDict, scores: Tensor, *, weight: str, percentage: float
) -> StateDict:
    """Return the update with the columns of ``weight`` that score highest as they were sent.

    Parameters
    ----------
    sent, returned : dict of str to Tensor
        Left as they are.
    scores : Tensor
        (n_h,), of the inputs of the last layer; see :func:`sensitivity_scores`.
    weight : str
        Name of that layer's weight, (outputs, n_h).
    percentage : float
        Share of the columns that are pruned, in percent, rounded up to whole ones.
    """
    pruned = math.ceil(percentage / 100 * len(scores))
    columns = scores.topk(pruned).indices
    left = returned[weight].clone()
    left[:, columns] = sent[weight][:, columns]
    return {**returned, weight: left}


def unpruned_columns(observation: Observation, weight: str) -> Channel:
    """Return which columns of the last layer were not pruned: those that moved."""
    sent, returned = observation.sent[weight], observation.returned[weight]
    moved = (returned != sent).any(0)
    return Channel(observed={weight: moved.expand_as(sent)})


@torch.no_grad()
def sensitivity_scores(
    encode: Callable[[Tensor], Tensor], images: Tensor, generator: torch.Generator
) -> Tensor:
    """Return abs(r_i) / ||dr_i / dx||, the mean over images (N, C, H, W), for each r_i.

    Parameters
    ----------
    encode : callable
        From images (B, C, H, W) to representations (B, n_h), in eval mode.
    images : Tensor
        On the device of ``encode``.
    generator : torch.Generator
        For the directions.

    Returns
    -------
    Tensor
        (n_h,), >= 0, on the CPU; 0 for an element that is zero.
    """
    total = torch.zeros(())
    for part in images.split(_AT_ONCE):
        directions = torch.randn((PROBES, *part.shape), generator=generator).to(images.device)
        along = vmap(lambda v, x=part: jvp(encode, (x,), (v,))[1], chunk_size=_AT_ONCE)
        sensitivity = along(directions).square().mean(0).sqrt()
        tiny = torch.finfo(sensitivity.dtype).tiny
        total = total + (encode(part).abs() / sensitivity.clamp_min(tiny)).sum(0).cpu()
    return total / len(images)
