"""The final linear layer: what the server sent of it, and what the update tells of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor, nn

from adversary.observation.observation import ObservationError
from adversary.observation.recipe import Loss
from adversary.problem.losses import output_gradients


@dataclass(frozen=True, kw_only=True, eq=False)
class Head:
    """A linear layer z = W h + b of C outputs, with the gradient (G_W, G_b) of the mean loss.

    A model without a linear layer has a head of which nothing is known.

    Parameters
    ----------
    loss : {"cross-entropy", "bce"}
        Softmax or sigmoid outputs.
    class_weights : Tensor, optional
        (C,), of the loss; see :mod:`adversary.problem.losses`.
    weight, bias : Tensor, optional
        W, (C, n_h), and b, (C,), as they were sent; None without a linear layer, b without one.
    weight_gradient, bias_gradient : Tensor, optional
        G_W, (C, n_h), and G_b, (C,); None for what was not sent.
    name : str
        Of the layer in the model; empty without one.
    """

    loss: Loss = "cross-entropy"
    class_weights: Tensor | None = None
    weight: Tensor | None = None
    bias: Tensor | None = None
    weight_gradient: Tensor | None = None
    bias_gradient: Tensor | None = None
    name: str = ""

    @property
    def weight_name(self) -> str:
        """Of W among the parameters."""
        return f"{self.name}.weight"

    @property
    def bias_name(self) -> str:
        """Of b among the parameters."""
        return f"{self.name}.bias"

    @property
    def observed(self) -> bool:
        """Whether any of its gradient was sent."""
        return self.weight_gradient is not None or self.bias_gradient is not None

    @property
    def complete(self) -> bool:
        """Whether all of its gradient was sent, and its bias is there."""
        return None not in (self.bias, self.weight_gradient, self.bias_gradient)

    @property
    def layer(self) -> tuple[Tensor, Tensor]:
        """(W, b) of a head that is :attr:`complete`."""
        assert self.weight is not None
        assert self.bias is not None
        return self.weight, self.bias

    @property
    def gradient(self) -> tuple[Tensor, Tensor]:
        """(G_W, G_b) of a head that is :attr:`complete`."""
        assert self.weight_gradient is not None
        assert self.bias_gradient is not None
        return self.weight_gradient, self.bias_gradient

    def double(self) -> Head:
        """Return the head in float64."""
        names = ("weight", "bias", "weight_gradient", "bias_gradient")
        parts = {name: getattr(self, name) for name in names}
        return replace(self, **{n: p.double() for n, p in parts.items() if p is not None})

    def outputs(self, logits: Tensor) -> Tensor:
        """Return softmax or sigmoid outputs of (..., C) logits."""
        return logits.softmax(-1) if self.loss == "cross-entropy" else logits.sigmoid()

    def errors(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the derivative of each image's loss by its logits; times C for ``bce``."""
        return output_gradients(outputs, targets, self.loss, self.class_weights)

    def terms(self, batch: int, outputs: int) -> int:
        """Return of how many summands the mean loss of a batch is the mean."""
        return batch if self.loss == "cross-entropy" else batch * outputs


def head_name(model: nn.Module) -> str:
    """Return the name of the last linear layer: ``head`` if there is one, else the last found."""
    names = [n for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    if not names:
        raise ObservationError("the model has no linear layer to read labels from")
    return "head" if "head" in names else names[-1]
