"""Models as other people's apps have them: normalised outside, ending in a sigmoid.

Attacks search images in [0, 1] and take a model's outputs for logits. What an app does to images
before its model, and to logits within it, is put into a copy here; names of parameters stay.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from adversary.common.errors import UserError, one_line_error
from adversary.common.torch_state import preserved_rng_state

Output = Literal["logits", "sigmoid", "softmax", "log-softmax"]
Normalisation = tuple[float | Sequence[float], float | Sequence[float]]

_TRIALS = 8
_LARGE = 1e3
"""Weights of the last layer with which outputs are looked at: logits follow them."""

_TOLERANCE = 1e-4


class ForeignModelError(UserError, ValueError):
    """A model, or a shape of its images, that no attack can use; one line."""


@dataclass(frozen=True)
class Adapted:
    """A model that maps images in [0, 1] to logits, and what the app's own one gives.

    Parameters
    ----------
    model : nn.Module
        A copy, with the parameters' names of the app's.
    output : str
        What the app's model ends in. A softmax is left in place: the cross-entropy is then of
        what the model returns, as ``CrossEntropyLoss`` on top of it has it.
    outputs : int
        C.
    """

    model: nn.Module
    output: Output
    outputs: int


def adapt(
    model: nn.Module,
    image_shape: tuple[int, int, int],
    normalise: Normalisation | None = None,
) -> Adapted:
    """Return a model that attacks can use.

    Parameters
    ----------
    model : nn.Module
        The app's; it is not changed.
    image_shape : tuple of int
        (C, H, W).
    normalise : tuple, optional
        (mean, std) of what the clients' loader does, ``(x - mean) / std``: numbers, or one for
        each channel.

    Raises
    ------
    ForeignModelError
        Where shape, normalisation and model do not fit one another.
    """
    _check_shape(image_shape)
    model = copy.deepcopy(model)
    mean, std = _constants(normalise, image_shape[0])
    looked_at = _look(model, image_shape)
    last, output = _last_module(model, image_shape), _output(looked_at)
    undo = output in ("sigmoid", "log-softmax")
    if undo and isinstance(last, nn.Sigmoid | nn.LogSoftmax):
        _replace(model, last)
    inverse = torch.logit if output == "sigmoid" and not isinstance(last, nn.Sigmoid) else None
    if normalise is not None or inverse is not None:
        model.__class__ = _adapted_class(type(model), mean, std, inverse)
    return Adapted(model, output, looked_at[0].shape[1])


def _check_shape(shape: Any) -> None:
    wanted = "must be (channels, height, width) of the clients' images, three whole numbers >= 1"
    if not isinstance(shape, tuple | list) or len(shape) != 3:
        raise ForeignModelError(f"image_shape = {shape!r}: {wanted}; tables hold no images")
    if not all(isinstance(n, int) and n >= 1 for n in shape):
        raise ForeignModelError(f"image_shape = {shape!r}: {wanted}")


def _constants(normalise: Normalisation | None, channels: int) -> tuple[Any, Any]:
    """Return mean and std as numbers, or as tensors (C, 1, 1) where channels differ."""
    if normalise is None:
        return 0.0, 1.0
    try:
        mean, std = ([float(n) for n in _several(part)] for part in normalise)
    except (TypeError, ValueError):
        mean, std = [], []
    fits = all(len(part) in {1, channels} for part in (mean, std))
    if not fits or not all(map(math.isfinite, (*mean, *std))) or not all(s > 0 for s in std):
        raise ForeignModelError(
            f"normalise = {normalise!r}: must be (mean, std), each a number or {channels}, one a "
            "channel, std > 0"
        )
    return _constant(mean), _constant(std)


def _several(part: float | Sequence[float]) -> Sequence[float]:
    return [part] if isinstance(part, int | float) else part


def _constant(numbers: list[float]) -> float | Tensor:
    return numbers[0] if len(set(numbers)) == 1 else torch.tensor(numbers).view(-1, 1, 1)


def _blank(image_shape: tuple[int, int, int]) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.rand(_TRIALS, *image_shape, generator=draw)


def _look(model: nn.Module, image_shape: tuple[int, int, int]) -> list[Tensor]:
    """Return the outputs of a few images, of the model as it is and with a large last layer."""
    trial = copy.deepcopy(model).cpu().float().eval()
    heads = [m for m in trial.modules() if isinstance(m, nn.Linear)]
    found = [_run(trial, image_shape)]
    if heads:
        draw = torch.Generator().manual_seed(1)
        weight = torch.randn(heads[-1].weight.shape, generator=draw) * _LARGE
        heads[-1].weight = nn.Parameter(weight)
        found.append(_run(trial, image_shape))
    return found


def _run(model: nn.Module, image_shape: tuple[int, int, int]) -> Tensor:
    """Return the outputs of a few images, (images, outputs)."""
    try:
        with torch.no_grad(), preserved_rng_state():
            outputs = model(_blank(image_shape))
    except Exception as error:  # a model's own code can raise anything
        raise ForeignModelError(
            f"image_shape = {image_shape}: the model takes no such images ({one_line_error(error)})"
        ) from error
    if not isinstance(outputs, Tensor) or outputs.ndim != 2 or len(outputs) != _TRIALS:
        kind = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ForeignModelError(
            f"model: must return a tensor (images, outputs), and returns {kind} for {_TRIALS} "
            "images"
        )
    return outputs


def _output(looked_at: list[Tensor]) -> Output:
    """Return what outputs must come from, whatever the weights of the last layer."""
    together = torch.cat(looked_at)
    if bool(((together >= 0) & (together <= 1)).all()):
        sums = together.sum(1)
        several = together.shape[1] > 1
        return "softmax" if several and bool((sums - 1).abs().max() < _TOLERANCE) else "sigmoid"
    normalised = together.shape[1] > 1 and bool((together <= _TOLERANCE).all())
    if normalised and bool(together.logsumexp(1).abs().max() < _TOLERANCE):
        return "log-softmax"
    return "logits"


def _last_module(model: nn.Module, image_shape: tuple[int, int, int]) -> nn.Module | None:
    """Return the module whose output is that of the model, if it is one without parts."""
    trial, calls = copy.deepcopy(model).cpu().float().eval(), []
    hooks = [
        module.register_forward_hook(lambda _, args, out, name=name: calls.append((name, out)))
        for name, module in trial.named_modules()
        if not list(module.children())
    ]
    with torch.no_grad(), preserved_rng_state():
        outputs = trial(_blank(image_shape))
    for hook in hooks:
        hook.remove()
    if not calls or calls[-1][1] is not outputs:
        return None
    return model.get_submodule(calls[-1][0]) if calls[-1][0] else None


def _replace(model: nn.Module, module: nn.Module) -> None:
    """Put an identity where a module without parameters was."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if child is module:
                setattr(parent, name, nn.Identity())


def _adapted_class(
    cls: type[nn.Module], mean: Any, std: Any, inverse: Callable[[Tensor], Tensor] | None
) -> type[nn.Module]:
    """Return a class of models that normalise before ``cls`` does its work, and undo its end.

    A class rather than a module around the model: names stay, and layers can be traced.
    """

    class Foreign(cls):  # type: ignore[misc, valid-type]
        normalised_by = float(torch.as_tensor(mean).mean()), float(torch.as_tensor(std).mean())

        def forward(self, images: Tensor) -> Tensor:
            centre, spread = (c.to(images) if isinstance(c, Tensor) else c for c in (mean, std))
            outputs = super().forward((images - centre) / spread)
            return outputs if inverse is None else inverse(outputs)

    Foreign.__name__ = Foreign.__qualname__ = cls.__name__
    return Foreign
