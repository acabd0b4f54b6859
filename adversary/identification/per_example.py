"""What each image adds to the gradient of a batch, as rows of a matrix.

The gradient of a linear or convolutional layer is a sum over images of outer products of what
comes in and of the loss's derivative by what goes out, so one forward and one backward pass of a
batch hold every image's own part; as in Goodfellow, "Efficient per-example gradient computations",
2015, and in opacus. With batch normalisation in training mode a batch has no gradients of its
images by themselves, but the same parts still sum to its gradient: they are what each image adds
in the company of the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from adversary.common.errors import UserError
from adversary.common.types import StateDict
from adversary.identification.company import KnownBatchNorm

NORMALISED = (_BatchNorm, nn.GroupNorm, nn.LayerNorm)
"""Layers of a scale and a shift."""

_WORDS = ("same", "valid")


class UnreadableModelError(UserError, ValueError):
    """A model with parameters in layers of which no image's part can be told; one line."""


@dataclass(frozen=True, eq=False)
class Block:
    """The entries of one parameter that are kept: some rows and some columns of it as a matrix.

    Parameters
    ----------
    rows : Tensor
        Indices into the first dimension (r,).
    columns : Tensor, optional
        Indices into all others, flattened (c,); None for a vector.
    """

    rows: Tensor
    columns: Tensor | None = None

    @property
    def size(self) -> int:
        """How many entries are kept."""
        return len(self.rows) * (1 if self.columns is None else len(self.columns))

    def of(self, parameter: Tensor) -> Tensor:
        """Return the entries of an array of the parameter's shape, flat, (size,)."""
        if self.columns is None:
            return parameter[self.rows].flatten()
        return parameter.flatten(1)[self.rows][:, self.columns].flatten()


Blocks = Mapping[str, Block]
"""By parameter; those not named are left out."""


def blocks(
    parameters: Mapping[str, Tensor], most: int, *, generator: torch.Generator
) -> dict[str, Block]:
    """Return which entries to keep, at most about ``most`` of each parameter.

    Of a larger one random rows and columns: inner products of whole gradients are then estimated
    from a share of their terms.
    """
    found = {}
    for name, value in parameters.items():
        rows = value.shape[0] if value.ndim else 1
        columns = value.numel() // rows
        if value.ndim < 2:
            found[name] = Block(_some(rows, most, generator))
            continue
        kept = min(1.0, math.sqrt(most / value.numel()))
        r = min(rows, max(1, round(rows * kept), math.ceil(most / columns * (kept < 1))))
        r = min(rows, r)
        c = min(columns, max(1, most // r))
        found[name] = Block(_some(rows, r, generator), _some(columns, c, generator))
    return found


def _some(of: int, most: int, generator: torch.Generator) -> Tensor:
    if of <= most:
        return torch.arange(of)
    return torch.randperm(of, generator=generator)[:most].sort().values


def parts(
    model: nn.Module,
    weights: StateDict,
    images: Tensor,
    loss: Callable[[Tensor], Tensor],
    kept: Blocks,
) -> Tensor:
    """Return each image's part of the gradient of the summed loss, (B, entries).

    Parameters
    ----------
    model : nn.Module
        In the mode in which to differentiate; its own weights and buffers are not changed.
    weights : dict of str to Tensor
        At which to take the gradient; parameters and buffers not named are the model's own.
    images : Tensor
        (B, C, H, W).
    loss : callable
        From the outputs (B, C) to the sum of the images' losses.
    kept : mapping of str to Block
        Entries to return, in this order.

    Raises
    ------
    UnreadableModelError
        If a parameter of ``kept`` is in a layer of another kind.
    """
    owners = _owners(model, kept)
    with _watched(owners) as seen:
        # Outputs of layers must be differentiable by, whatever the weights ask for.
        probe = images.detach().requires_grad_(True)
        loss(functional_call(model, dict(weights), (probe,))).backward()
    found: dict[str, Tensor] = {}
    for name, layer in owners.items():
        entering, leaving = seen[name]
        found |= _layer_parts(name, layer, entering, leaving, kept, weights)
    return torch.cat([found[name] for name in kept], 1)


def readable(model: nn.Module, names: Iterable[str]) -> list[str]:
    """Return the parameters of which images' parts can be told: those of layers known here."""
    return [n for n in names if _is_known(model.get_submodule(n.rpartition(".")[0]))]


def _is_known(layer: nn.Module) -> bool:
    # By their exact types, since a layer derived from one may do something else.
    kind = type(layer)
    if isinstance(layer, nn.Conv2d):
        return kind in _PARTS and layer.padding_mode == "zeros" and layer.padding not in _WORDS
    return kind in _PARTS or kind in (nn.GroupNorm, nn.LayerNorm) or isinstance(layer, _BatchNorm)


def _owners(model: nn.Module, names: Iterable[str]) -> dict[str, nn.Module]:
    """Return the layers of parameters, by name."""
    owners: dict[str, nn.Module] = {}
    for name in names:
        where, _, _ = name.rpartition(".")
        layer = model.get_submodule(where)
        if not _is_known(layer):
            raise UnreadableModelError(
                f"{name}: of a {type(layer).__name__} no image's part of the gradient can be told"
            )
        owners[where] = layer
    return owners


@contextmanager
def _watched(layers: Mapping[str, nn.Module]) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Note what enters layers, and the loss's derivative by what leaves them."""
    entering: dict[str, Tensor] = {}
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def look(name: str, arguments: Tensor, leaving: Tensor) -> None:
        entering[name] = arguments.detach()
        leaving.register_hook(lambda slope: note(name, slope))

    def note(name: str, slope: Tensor) -> None:
        seen[name] = entering[name], slope.detach()

    hooks = [
        layer.register_forward_hook(
            lambda _, arguments, leaving, name=name: look(name, arguments[0], leaving)
        )
        for name, layer in layers.items()
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _layer_parts(
    name: str,
    layer: nn.Module,
    entering: Tensor,
    slopes: Tensor,
    kept: Blocks,
    weights: StateDict,
) -> dict[str, Tensor]:
    """Return the parts (B, size) of a layer's parameters that are kept."""
    found = {}
    if (block := kept.get(f"{name}.bias")) is not None:
        found[f"{name}.bias"] = _summed(layer, slopes)[:, block.rows]
    if (block := kept.get(f"{name}.weight")) is not None:
        if isinstance(layer, NORMALISED):
            plain = _normalised(name, layer, entering, weights)
            found[f"{name}.weight"] = _summed(layer, slopes * plain)[:, block.rows]
        else:
            found[f"{name}.weight"] = _PARTS[type(layer)](layer, entering, slopes, block)
    return found


def _summed(layer: nn.Module, values: Tensor) -> Tensor:
    """Return values (B, C, ...) or, of layers on the last dimension, (B, ..., C) as (B, C)."""
    if isinstance(layer, nn.Linear | nn.LayerNorm):
        return values.flatten(1, -2).sum(1) if values.ndim > 2 else values
    return values.flatten(2).sum(2) if values.ndim > 2 else values


def _normalised(name: str, layer: nn.Module, entering: Tensor, weights: StateDict) -> Tensor:
    if isinstance(layer, nn.GroupNorm):
        return functional.group_norm(entering, layer.num_groups, eps=layer.eps)
    if isinstance(layer, nn.LayerNorm):
        return functional.layer_norm(entering, list(layer.normalized_shape), eps=layer.eps)
    if isinstance(layer, KnownBatchNorm):
        return layer.plain(entering)
    assert isinstance(layer, _BatchNorm)
    if layer.training or layer.running_mean is None or layer.running_var is None:
        return functional.batch_norm(entering, None, None, training=True, eps=layer.eps)
    mean = weights.get(f"{name}.running_mean", layer.running_mean)
    variance = weights.get(f"{name}.running_var", layer.running_var)
    return functional.batch_norm(entering, mean, variance, training=False, eps=layer.eps)


def _linear(layer: nn.Module, entering: Tensor, slopes: Tensor, block: Block) -> Tensor:
    assert block.columns is not None
    inputs, slopes = entering[..., block.columns], slopes[..., block.rows]
    if inputs.ndim == 2:
        return (slopes[:, :, None] * inputs[:, None]).flatten(1)
    return torch.einsum("bto,bti->boi", slopes.flatten(1, -2), inputs.flatten(1, -2)).flatten(1)


def _convolution(layer: nn.Module, entering: Tensor, slopes: Tensor, block: Block) -> Tensor:
    assert isinstance(layer, nn.Conv2d)
    assert block.columns is not None
    assert not isinstance(layer.padding, str)
    columns = functional.unfold(
        entering, layer.kernel_size, layer.dilation, layer.padding, layer.stride
    )
    slopes = slopes.flatten(2)[:, block.rows]
    if layer.groups == 1:
        return (slopes @ columns[:, block.columns].mT).flatten(1)
    by_group = columns.unflatten(1, (layer.groups, -1))[:, :, block.columns]
    group = block.rows // (layer.out_channels // layer.groups)
    return torch.einsum("brl,brcl->brc", slopes, by_group[:, group]).flatten(1)


_PARTS: dict[type[nn.Module], Callable[[nn.Module, Tensor, Tensor, Block], Tensor]] = {
    nn.Linear: _linear,
    nn.Conv2d: _convolution,
}
