"""What a defence is."""

from __future__ import annotations

import dataclasses
from abc import ABC
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor

from adversary.common.truth import Blends
from adversary.common.types import StateDict
from adversary.observation.channel import Channel
from adversary.observation.mechanisms import DefenceError, Mechanism, is_buffer
from adversary.observation.observation import Observation, View
from adversary.observation.recipe import TrainingRecipe
from fl_sim.models import Classifier
from fl_sim.training import local_training

if TYPE_CHECKING:
    from flwr.clientapp.typing import Mod
    from flwr.serverapp import Grid
    from flwr.serverapp.strategy import Strategy

    from fl_sim.defences.accounting import PrivacySpent

__all__ = ["Defence", "DefenceError", "LocalUpdate", "UpdateDefence", "is_buffer"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LocalUpdate:
    """What a client holds when it has trained, before anything leaves.

    Parameters
    ----------
    sent, returned : dict of str to Tensor
        The state dicts that it received and that it trained, on the CPU.
    model : Classifier
        Of the architecture that is trained; holds ``returned``.
    recipe : TrainingRecipe
        The local training.
    images, labels : Tensor
        The distinct images that it used in this round, (n, C, H, W), and their labels.
    """

    sent: StateDict
    returned: StateDict
    model: Classifier
    recipe: TrainingRecipe
    images: Tensor
    labels: Tensor


class Defence(ABC):
    """A change to what the clients train, to what leaves them, or to what the server may see.

    A defence is a frozen dataclass with keyword-only parameters: its fields, with their types,
    are the options that a user can set. Each method below does what is done without a defence;
    a defence overrides those that it changes. Server and clients build the same defence from the
    settings, as the federation agreed on it.

    Attributes
    ----------
    protects : str
        What it protects against whom, and what it does not, in a sentence for the report.
    alters_updates : bool
        Whether the server sees anything else than without it; comparisons group settings by it.
    reports_losses : bool
        Whether clients tell the server how the model does on their own images. Those figures
        leave as they are, so a defence whose account is to hold against the server forgoes them.
    view : {"client", "aggregate"}
        What the server receives, and so what an adversary there attacks: each client's update, or
        only the mean of those of a round, in the place of each, as :meth:`grid` has it.
    """

    protects: ClassVar[str]
    alters_updates: ClassVar[bool] = True
    reports_losses: ClassVar[bool] = True
    view: ClassVar[View] = "client"

    def prepare(self, *, rounds: int, strategy: str, examples: Sequence[int]) -> Self:
        """Return the defence as the federation agrees on it before the first round.

        Parameters
        ----------
        rounds : int
            Number of rounds of the run.
        strategy : str
            Name of the strategy that aggregates.
        examples : sequence of int
            Number of images of each client.

        Raises
        ------
        DefenceError
            If the defence cannot be had in such a run; one line that names the setting.
        """
        return self

    def recipe(self, recipe: TrainingRecipe) -> TrainingRecipe:
        """Return the local training that the server prescribes in place of ``recipe``.

        Raises
        ------
        DefenceError
            If the defence cannot be had with it; one line that names the setting.
        """
        return recipe

    def model(self, model: Classifier) -> Classifier:
        """Return the architecture to train in place of ``model``, which may be changed."""
        return model

    def fitted(
        self, architecture: Callable[[], Classifier], image_shape: tuple[int, int, int]
    ) -> Self:
        """Return the defence that knows the architecture and (C, H, W) of its images.

        For those whose :meth:`channel` depends on them; the others build no model.
        """
        return self

    def personal(self, names: Collection[str]) -> frozenset[str]:
        """Return which arrays of a state dict each client keeps for itself, round after round.

        A client goes on with its own values of them, whatever the server sends; :meth:`apply`
        must keep them from leaving.
        """
        return frozenset()

    def batches(
        self, num_examples: int, recipe: TrainingRecipe, *, seed: int, round: int, client: int
    ) -> list[Tensor]:
        """Return a client's batches; see :func:`~fl_sim.training.local_training.minibatches`."""
        return local_training.minibatches(
            num_examples, recipe, seed=seed, round=round, client=client
        )

    def inputs(self, images: Tensor, *, generator: torch.Generator) -> Tensor:
        """Return what the network sees in a round in place of a client's images (N, C, H, W).

        Scoring compares reconstructions with what this returns: a patient who was shifted by a
        pixel is as recognisable as before.
        """
        return images

    def blends(
        self,
        images: Tensor,
        labels: Tensor,
        recipe: TrainingRecipe,
        batches: Sequence[Tensor],
        *,
        outputs: int,
        generator: torch.Generator,
    ) -> Blends | None:
        """Return what :meth:`train` shows to a network with that many outputs, if blends.

        A pure function of its arguments and the generator's state, so that the bound on an update
        can be that of what the network saw. None where it sees the images themselves.
        """
        return None

    def train(
        self,
        model: Classifier,
        images: Tensor,
        labels: Tensor,
        recipe: TrainingRecipe,
        batches: Sequence[Tensor],
        *,
        generator: torch.Generator,
    ) -> float:
        """Train ``model`` where it is; see :func:`~fl_sim.training.local_training.train`."""
        device = local_training.device_of(model)
        return local_training.train(model, images, labels, recipe, batches, device=device)

    def apply(self, update: LocalUpdate, *, generator: torch.Generator) -> StateDict:
        """Return what leaves the client in place of ``update.returned``.

        Parameters
        ----------
        update : LocalUpdate
            Left as it is.
        generator : torch.Generator
            The only source of randomness.
        """
        return update.returned

    def channel(self, observation: Observation) -> Channel:
        """Return the noise model of the defence for one update, as an attacker knows it.

        It has the parameters of the defence and the update that it received, nothing else.
        """
        return Channel()

    def strategy(self, strategy: Strategy, *, clients: int) -> Strategy:
        """Return what aggregates in place of ``strategy``; ``clients`` is how many train."""
        return strategy

    def grid(self, grid: Grid) -> Grid:
        """Return what carries the server's messages in place of ``grid``, Flower's or around it.

        The strategy, and an adversary with it, see the replies of what is returned.
        """
        return grid

    def client_mod(self) -> Mod | None:
        """Return the mod through which a client gets its train messages; None for none.

        The client's end of :meth:`grid`: it sees what leaves the client last. Clients of one run
        make it anew for each message, so what it has to remember belongs in the context.
        """
        return None

    def account(
        self, recipe: TrainingRecipe, *, num_examples: int, clients: int, rounds: int
    ) -> PrivacySpent | None:
        """Return the privacy budget that a client has spent after ``rounds`` rounds.

        None where the mechanism earns no guarantee.

        Parameters
        ----------
        recipe : TrainingRecipe
            The local training, as :meth:`recipe` left it.
        num_examples : int
            Number of the client's images.
        clients : int
            Number of clients that train in a round.
        rounds : int
            In how many rounds the client took part.
        """
        return None

    def describe(self) -> dict[str, bool | int | float | str]:
        """Return the parameters by name, for the report."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]


class UpdateDefence(Mechanism, Defence):
    """A defence that is a mechanism on the update, which comes first among its bases."""

    def apply(self, update: LocalUpdate, *, generator: torch.Generator) -> StateDict:
        """Return what the mechanism releases."""
        return self.release(update.sent, update.returned, generator=generator)
