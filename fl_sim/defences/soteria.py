"""Soteria: the encodings that tell most of an image leave the last layer's update."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import jvp, vmap

from adversary.common.types import StateDict
from adversary.observation.channel import Channel
from adversary.observation.observation import Observation
from fl_sim.defences.base import Defence, DefenceError, LocalUpdate
from fl_sim.models import Classifier

WEIGHT = "head.weight"
PROBES = 64
"""Random directions by which sensitivities are estimated."""
_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class Soteria(Defence):
    r"""Prune from the last layer's update the inputs that are largest for their sensitivity.

    Sun et al., "Soteria: provable defense against privacy leakage in federated learning from
    representation perspective" (CVPR 2021): of the representation r, the input of the
    last layer, the elements with the largest abs(r_i) / ||dr_i / dx|| are pruned at the weights
    that were sent, and with them the columns of the last layer's weight gradient, the only array
    that changes. Over a batch the criterion is the mean. As in the authors' code batch
    normalisation is in eval mode for it.

    Departure: ||dr_i / dx||^2 is estimated as the mean of (J v)_i^2 over 64 directions v from
    N(0, I), with a relative error of 9 % in the norm, because the exact one costs a backward
    pass for every element.

    Parameters
    ----------
    percentage : float
        Share of the inputs of the last layer that are pruned, in percent, >= 0 and < 100.
    """

    percentage: float = 20.0

    protects = (
        "Hides from the server a part of the last layer's update. Only attacks that trust that "
        "layer are misled: one that leaves the pruned part out sees all other layers as they are "
        "(Balunovic et al., ICLR 2022), and the body still gives the images away. Earns no "
        "epsilon."
    )

    def __post_init__(self) -> None:
        if not 0 <= self.percentage < 100:
            raise DefenceError(f"percentage = {self.percentage}: must be a number >= 0 and < 100")

    def apply(self, update: LocalUpdate, *, generator: torch.Generator) -> StateDict:
        """Return the weights with the pruned columns of the last layer as they were sent."""
        features = update.returned[WEIGHT].shape[1]
        pruned = math.ceil(self.percentage / 100 * features)
        if not pruned:
            return update.returned
        model = copy.deepcopy(update.model)
        model.load_state_dict(update.sent)
        columns = sensitivity_scores(model, update.images, generator).topk(pruned).indices
        weight = update.returned[WEIGHT].clone()
        weight[:, columns] = update.sent[WEIGHT][:, columns]
        return {**update.returned, WEIGHT: weight}

    def channel(self, observation: Observation) -> Channel:
        """Return which columns of the last layer were not pruned: those that moved."""
        if not self.percentage:
            return Channel()
        sent, returned = observation.sent[WEIGHT], observation.returned[WEIGHT]
        moved = (returned != sent).any(0)
        return Channel(observed={WEIGHT: moved.expand_as(sent)})


@torch.no_grad()
def sensitivity_scores(model: Classifier, images: Tensor, generator: torch.Generator) -> Tensor:
    """Return abs(r_i) / ||dr_i / dx||, the mean over images (N, C, H, W), for each r_i.

    Parameters
    ----------
    model : Classifier
        Put into eval mode.
    images : Tensor
        Moved to where the model is.
    generator : torch.Generator
        For the directions.

    Returns
    -------
    Tensor
        (n_h,), >= 0; 0 for an element that is zero.
    """
    device = next(model.parameters()).device
    model.eval()
    total = torch.zeros(())
    for part in images.split(_AT_ONCE):
        directions = torch.randn((PROBES, *part.shape), generator=generator).to(device)
        x = part.to(device)
        along = vmap(lambda v, x=x: jvp(model.encode, (x,), (v,))[1], chunk_size=_AT_ONCE)
        sensitivity = along(directions).square().mean(0).sqrt()
        tiny = torch.finfo(sensitivity.dtype).tiny
        total = total + (model.encode(x).abs() / sensitivity.clamp_min(tiny)).sum(0).cpu()
    return total / len(images)
