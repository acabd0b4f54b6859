"""Central differential privacy in the server."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from adversary.observation.recipe import TrainingRecipe
from fl_sim.defences.accounting import PrivacySpent, default_delta, gaussian_account
from fl_sim.defences.base import Defence, DefenceError
from fl_sim.models import Classifier
from fl_sim.models.adapt import batch_to_group_norm

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy

AVERAGING = ("fedavg", "fedprox")
"""Strategies that average as FedAvg does, which Flower's accountant asks for."""


@dataclass(frozen=True, kw_only=True)
class CentralDp(Defence):
    """Central DP in the server: it clips the updates it receives, and adds noise to their mean.

    McMahan et al. 2018 ("Learning Differentially Private Recurrent Language Models"), as Flower
    has it. The server sees every update before that: its attacks find what they find without a
    defence. Clients count equally, however many images they have. Batch normalisation becomes
    group normalisation: noise would make variances negative.

    Parameters
    ----------
    clip : float
        L2 norm to which each client's update is clipped, > 0.
    noise_multiplier : float
        Standard deviation of the noise on the sum of the updates over ``clip``, >= 0.
    delta : float
        In (0, 1); 0 is min(0.01, 0.9 / number of clients that train in a round).
    """

    clip: float = 1.0
    noise_multiplier: float = 1.0
    delta: float = 0.0

    protects = (
        "Bounds what those who see the released models alone can learn about any one client. "
        "Protects nothing against the server, which receives every update as it was trained."
    )
    alters_updates = False

    def __post_init__(self) -> None:
        for name, valid, allowed in (
            ("clip", 0 < self.clip < math.inf, "a number > 0"),
            ("noise_multiplier", 0 <= self.noise_multiplier < math.inf, "a number >= 0"),
            ("delta", 0 <= self.delta < 1, "> 0 and < 1, or 0 for the default"),
        ):
            if not valid:
                raise DefenceError(f"{name} = {getattr(self, name)}: must be {allowed}")

    def prepare(self, *, rounds: int, strategy: str, examples: Sequence[int]) -> Self:
        """Return the defence, if the strategy averages as FedAvg does."""
        if strategy not in AVERAGING:
            raise DefenceError(
                f"strategy.name = {strategy!r}: central-dp needs {' or '.join(AVERAGING)}"
            )
        return self

    def model(self, model: Classifier) -> Classifier:
        """Return the model without batch normalisation."""
        batch_to_group_norm(model)
        return model

    def strategy(self, strategy: Strategy, *, clients: int) -> Strategy:
        """Return Flower's wrapper around ``strategy``."""
        from strategies.wrappers.central_dp import CentralDP

        return CentralDP(
            strategy,
            noise_multiplier=self.noise_multiplier,
            clip=self.clip,
            clients=clients,
            delta=self._delta(clients),
        )

    def account(
        self, recipe: TrainingRecipe, *, num_examples: int, clients: int, rounds: int
    ) -> PrivacySpent | None:
        """Return the account of one release a round; None without noise."""
        return gaussian_account(
            noise_multiplier=self.noise_multiplier,
            steps=rounds,
            delta=self._delta(clients),
            unit="client",
            against="those who see the released models alone, not the server",
        )

    def _delta(self, clients: int) -> float:
        return self.delta or default_delta(clients)
