"""Batch normalisation in training mode, with the company of an image in its place.

In training mode what a layer makes of an image depends on the batch: on its mean and variance of
every channel going forward, and going back on the batch's derivatives by the layer's shift and
scale. With these in place each image's part is that which it had in the client's own batches, and
needs no company to be put into. All four are in the update, the first two in the buffers and the
others in the change of shift and scale, as means over the local steps. Of one step it is exact.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from adversary.common.types import StateDict


@dataclass(frozen=True, eq=False)
class Company:
    """What a layer's batches were like, by channel, (C,) each.

    Parameters
    ----------
    mean, variance : Tensor
        Of what entered, the variance unbiased.
    by_shift, by_scale : Tensor
        Derivatives of a batch's mean loss by the layer's shift and scale.
    """

    mean: Tensor
    variance: Tensor
    by_shift: Tensor
    by_scale: Tensor


class KnownBatchNorm(_BatchNorm):
    """Batch normalisation of images whose batch is known, in evaluation mode.

    Parameters
    ----------
    layer : nn.Module
        Which it stands for.
    company : Company
        Of its batches.
    batch_size : int
        Images of a batch.
    """

    def __init__(self, layer: _BatchNorm, company: Company, batch_size: int) -> None:
        super().__init__(layer.num_features, eps=layer.eps, affine=layer.affine)
        self.weight, self.bias = layer.weight, layer.bias
        self.company = company
        self.batch_size = batch_size
        self.eval()

    def forward(self, entering: Tensor) -> Tensor:
        """Return what leaves, with derivatives as in the batch."""
        plain = self.plain(entering)
        around = (1, -1, *[1] * (entering.ndim - 2))
        if plain.requires_grad:
            places = entering[0, 0].numel()
            scale = 1.0 if self.weight is None else self.weight.detach().view(around)
            pull = self.company.by_shift.view(around) + plain.detach() * (
                self.company.by_scale.view(around)
            )
            plain.register_hook(lambda slope: slope - scale * pull / places)
        if self.weight is None:
            return plain
        return plain * self.weight.view(around) + self.bias.view(around)

    def plain(self, entering: Tensor) -> Tensor:
        """Return what leaves before scale and shift."""
        around = (1, -1, *[1] * (entering.ndim - 2))
        count = self.batch_size * entering[0, 0].numel()
        variance = self.company.variance * ((count - 1) / count)
        return (entering - self.company.mean.view(around)) / (
            variance.view(around) + self.eps
        ).sqrt()

    def _check_input_dim(self, input: Tensor) -> None:
        """Take what the layer takes."""


def told(
    name: str, layer: nn.Module, moved: StateDict, gains: Sequence[Mapping[str, Tensor]]
) -> Company:
    """Return what an update tells of a layer's batches, the mean over local steps.

    Parameters
    ----------
    name : str
        Of the layer.
    layer : nn.Module
        Batch normalisation.
    moved : dict of str to Tensor
        What the update tells of each array.
    gains : sequence of mapping of str to Tensor
        By how much the steps' gradients and statistics count in each.
    """
    buffer = layer.running_mean
    assert isinstance(buffer, Tensor)

    def mean(key: str) -> Tensor:
        if key not in moved:
            return torch.zeros_like(buffer)
        total = torch.stack(torch.broadcast_tensors(*(g[key] for g in gains))).sum(0)
        return (moved[key] / total).to(buffer)

    return Company(
        mean=mean(f"{name}.running_mean"),
        variance=mean(f"{name}.running_var").clamp_min(0),
        by_shift=mean(f"{name}.bias"),
        by_scale=mean(f"{name}.weight"),
    )


def with_company(model: nn.Module, companies: Mapping[str, Company], batch_size: int) -> nn.Module:
    """Return a copy of a model whose layers of these names have their company; the same of none."""
    if not companies:
        return model
    model = copy.deepcopy(model)
    for name, one in companies.items():
        parent, _, last = name.rpartition(".")
        layer = model.get_submodule(name)
        assert isinstance(layer, _BatchNorm)
        setattr(model.get_submodule(parent), last, KnownBatchNorm(layer, one, batch_size))
    return model
