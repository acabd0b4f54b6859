"""Soteria for any network that ends in a linear layer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from flwr.app import Context, Message
from torch import Tensor, nn

from adversary.observation.mechanisms import DefenceError
from adversary.observation.mechanisms.representation_pruning import (
    prune_columns,
    sensitivity_scores,
)
from strategies.mods.updates import ClientUpdate, UpdateMod


class SoteriaMod(UpdateMod):
    """Prunes from the last layer's update the inputs that are largest for their sensitivity.

    Sun et al., CVPR 2021; see :class:`fl_sim.defences.soteria.Soteria` for the criterion. It
    misleads attacks that trust the last layer alone.

    Parameters
    ----------
    model : callable
        Makes the network, whose state dict is named as the arrays in the messages.
    images : callable
        From the message and the client's context to the images that were trained on,
        (N, C, H, W).
    layer : str
        Name of the last linear layer, e.g. ``fc``.
    percentage : float
        Share of its inputs that are pruned, in percent, >= 0 and < 100.
    seed : int, optional
        See :class:`UpdateMod`.
    """

    def __init__(
        self,
        model: Callable[[], nn.Module],
        images: Callable[[Message, Context], Tensor],
        *,
        layer: str,
        percentage: float = 20.0,
        seed: int | None = None,
    ) -> None:
        super().__init__(seed=seed)
        if not 0 <= percentage < 100:
            raise DefenceError(f"percentage = {percentage}: must be a number >= 0 and < 100")
        self.model, self.images = model, images
        self.layer, self.percentage = layer, percentage

    def protect(self, update: ClientUpdate) -> None:
        """Put the pruned update into the reply.

        Raises
        ------
        DefenceError
            If the model has no linear layer of the name.
        """
        model = self.model().eval()
        model.load_state_dict(update.sent)
        layer = dict(model.named_modules()).get(self.layer)
        if not isinstance(layer, nn.Linear):
            linear = [name for name, m in model.named_modules() if isinstance(m, nn.Linear)]
            raise DefenceError(
                f"layer = {self.layer!r}: must be a linear layer, of {', '.join(linear)}"
            )
        with torch.random.fork_rng(devices=[]):
            scores = sensitivity_scores(
                lambda x: _input_of(layer, model, x),
                self.images(update.message, update.context),
                self.generator(update),
            )
        update.replace(
            prune_columns(
                update.sent,
                update.returned,
                scores,
                weight=f"{self.layer}.weight",
                percentage=self.percentage,
            )
        )


def _input_of(layer: nn.Module, model: nn.Module, images: Tensor) -> Tensor:
    """Return what a layer is given when the network sees images."""
    inputs: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
    try:
        model(images)
    finally:
        hook.remove()
    return inputs[0]
