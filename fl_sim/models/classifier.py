"""Base classifier: an encoder, and one linear layer on top."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from adversary.common.errors import UserError


class ModelError(UserError, ValueError):
    """A model that cannot be built as asked; one line."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What a model is asked for.

    Parameters
    ----------
    name : str
        Name of the architecture, for messages.
    channels : int
        1 (grey) or 3 (RGB).
    image_size : int
        Height and width of the images in pixels.
    outputs : int
        Number of classes (cross-entropy) or of labels (binary cross-entropy), >= 1.
    activation : str
        For architectures that leave the choice: a key of
        :data:`fl_sim.models.convnet.ACTIVATIONS`.
    """

    name: str
    channels: int
    image_size: int
    outputs: int
    activation: str

    def require_size(self, smallest: int) -> None:
        """Raise :class:`ModelError` where the images are smaller than ``smallest`` pixels."""
        if self.image_size < smallest:
            raise ModelError(
                f"data.image-size = {self.image_size}: {self.name} takes {smallest} pixels or more"
            )


class Classifier(nn.Module):
    """``head(encode(x))``, with the normalisation of the images inside.

    Normalisation is a constant of the architecture, not a buffer: it is never sent, averaged or
    trained, and images, attacks and metrics all share the range [0, 1].

    Parameters
    ----------
    body : nn.Module
        Maps normalised images (B, C, H, W) to features; what it returns is flattened.
    head : nn.Linear
        The last layer, from the n_h flattened features to the outputs.
    mean, std : float or Tensor
        The body sees ``(x - mean) / std``; (C, 1, 1) where channels differ.
    """

    def __init__(
        self, body: nn.Module, head: nn.Linear, *, mean: float = 0.5, std: float = 0.25
    ) -> None:
        super().__init__()
        self.body = body
        self.head = head
        self.mean: float | Tensor = mean
        self.std: float | Tensor = std

    @staticmethod
    def constant(numbers: Sequence[float]) -> float | Tensor:
        """Return a constant of the normalisation: one number, or one a channel."""
        if len(set(numbers)) == 1:
            return numbers[0]
        return torch.tensor(numbers, dtype=torch.float64).view(-1, 1, 1).float()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # They are no buffers, so nothing else moves them with the model.
        super()._apply(fn, recurse)
        for name in ("mean", "std"):
            if isinstance(value := getattr(self, name), Tensor):
                setattr(self, name, fn(value))
        return self

    def encode(self, x: Tensor) -> Tensor:
        """Return the encodings (B, n_h), the input of the last layer, of images in [0, 1]."""
        return self.body((x - self.mean) / self.std).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, outputs) of images (B, C, H, W) in [0, 1]."""
        return self.head(self.encode(x))
