"""Client-level local differential privacy: a clipped update with Gaussian noise."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from adversary.observation.mechanisms import ClippedGaussian, DefenceError
from adversary.observation.recipe import TrainingRecipe
from fl_sim.defences.accounting import PrivacySpent, default_delta, gaussian_account
from fl_sim.defences.base import UpdateDefence

STATISTICS = ("frozen", "clear")


@dataclass(frozen=True, kw_only=True)
class LocalDp(ClippedGaussian, UpdateDefence):
    r"""Clip the whole update to an L2 norm and add Gaussian noise, in the client.

    The Gaussian mechanism on the update of McMahan et al., "Learning differentially private
    recurrent language models" (ICLR 2018, flat clipping), but with the noise in the client, so that
    the server is held off too: delta min(1, clip / ||delta||) + N(0, (noise_multiplier clip)^2),
    the norm over all trained arrays together.

    Counts and running statistics are no weights and cannot be clipped with them. By default
    batch normalisation is frozen at the statistics that the server sent, so none leave; sent in
    clear they are outside of the guarantee and no epsilon is given.

    Parameters
    ----------
    clip : float
        C, the largest L2 norm of an update, in units of the weights, > 0.
    noise_multiplier : float
        Standard deviation of the noise over ``clip``, >= 0.
    delta : float
        For the account; in (0, 1). 0 is min(0.01, 0.9 / number of clients that train in a round).
    statistics : {"frozen", "clear"}
        Whether batch normalisation keeps the statistics that were sent, or sends new ones.
    """

    delta: float = 0.0
    statistics: str = "frozen"

    protects = (
        "Bounds what anyone, the server included, can learn from a client's updates about all of "
        "its images together, by an epsilon that grows with every round and is large unless the "
        "noise drowns the update. The number of images is public, and no losses are reported; "
        "batch-norm statistics sent in clear void it."
    )
    reports_losses = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, valid, allowed in (
            ("delta", 0 <= self.delta < 1, "> 0 and < 1, or 0 for the default"),
            ("statistics", self.statistics in STATISTICS, f"one of {', '.join(STATISTICS)}"),
        ):
            if not valid:
                raise DefenceError(f"{name} = {getattr(self, name)}: must be {allowed}")

    def recipe(self, recipe: TrainingRecipe) -> TrainingRecipe:
        """Return the recipe with batch normalisation frozen, unless its statistics are sent."""
        if self.statistics == "clear":
            return recipe
        return dataclasses.replace(recipe, batch_norm="eval")

    def account(
        self, recipe: TrainingRecipe, *, num_examples: int, clients: int, rounds: int
    ) -> PrivacySpent | None:
        """Return what ``rounds`` updates of one client have spent.

        The server knows who took part, so neighbours are two clients whose images differ in any
        way: "replace one", with sensitivity 2 C, and an accountant's noise multiplier of half
        the option. Every client answers every time (sample rate 1): there is no amplification.
        None without noise, and where statistics leave in clear.
        """
        if self.statistics == "clear" and recipe.batch_norm == "train":
            return None
        return gaussian_account(
            noise_multiplier=self.noise_multiplier / 2,
            steps=rounds,
            delta=self.delta or default_delta(clients),
            unit="client",
            neighbours="replace one",
            against="everyone who sees updates or models, the server included",
        )
