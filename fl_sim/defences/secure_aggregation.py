"""Secure aggregation: the server sees the mean of the clients' updates, and no client's own."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from adversary.observation.channel import Channel
from adversary.observation.observation import Observation
from fl_sim.defences.base import Defence, DefenceError, is_buffer
from strategies.registry import STRATEGIES, averaging

if TYPE_CHECKING:
    from flwr.clientapp.typing import Mod
    from flwr.serverapp import Grid
    from flwr.serverapp.strategy import Strategy

MODULUS_RANGE = 2**32
"""Flower's: masks and sums are integers modulo this."""

MOST_LEVELS = 2**30
"""Flower rounds to 32-bit integers."""


@dataclass(frozen=True, kw_only=True)
class SecureAggregation(Defence):
    """Flower's SecAgg+ (Bell et al. 2020); the parameters are those of its SecAggPlusWorkflow.

    A client weighs its arrays by its share of ``max_weight``, clips them, rounds them at random
    to one of ``quantization_range`` levels, and adds masks that cancel in the sum over clients.

    Parameters
    ----------
    num_shares : float
        Share of the clients among whom each shares its keys, in (0, 1]; 1 is all of them.
    reconstruction_threshold : float
        Share of the key's shares that recovers it, in (0, 1]: so many of the clients must stay
        to the end of a round. At least 2 do.
    max_weight : int
        Number of images that no client exceeds, >= 0; 0 is that of the largest client. More
        than that only makes the rounding coarser.
    clipping_range : float
        Largest absolute value of an array, > 0; a client with a larger one drops out. Running
        variances of batch normalisation can be in the hundreds.
    quantization_range : int
        Levels between minus and plus the clipping range; times the number of clients less
        than the modulus of 2^32.
    """

    num_shares: float = 1.0
    reconstruction_threshold: float = 0.67
    max_weight: int = 0
    clipping_range: float = 8.0
    quantization_range: int = 2**22

    protects = (
        "Hides each client's update from an honest-but-curious server, which sees their mean, "
        "the clients' numbers of images and their losses. What the mean itself gives away "
        "stays. Flower expands masks from seeds of 32 bits: between two clients a search finds "
        "them."
    )
    view = "aggregate"

    def __post_init__(self) -> None:
        for name in ("num_shares", "reconstruction_threshold"):
            if not 0 < getattr(self, name) <= 1:
                raise DefenceError(f"{name} = {getattr(self, name)}: must be > 0 and <= 1")
        if self.max_weight < 0:
            raise DefenceError(f"max_weight = {self.max_weight}: must be an integer >= 0")
        if not (math.isfinite(self.clipping_range) and self.clipping_range > 0):
            raise DefenceError(f"clipping_range = {self.clipping_range}: must be a number > 0")
        if not 2 <= self.quantization_range <= MOST_LEVELS:
            raise DefenceError(
                f"quantization_range = {self.quantization_range}: must be an integer >= 2 and "
                f"<= {MOST_LEVELS}"
            )

    def prepare(self, *, rounds: int, strategy: str, examples: Sequence[int]) -> Self:
        """Return it with the largest client as the largest weight, if none was given."""
        if STRATEGIES[strategy].needs_each:
            raise DefenceError(
                f"strategy.name = {strategy!r}: needs each client's update, which "
                f"secure-aggregation hides; must be one of {', '.join(averaging())}"
            )
        largest, clients = max(examples), len(examples)
        if 0 < self.max_weight < largest:
            raise DefenceError(
                f"defence.max_weight = {self.max_weight}: a client has {largest} images; "
                "must be at least that, or 0"
            )
        if clients * self.quantization_range >= MODULUS_RANGE:
            raise DefenceError(
                f"defence.quantization_range = {self.quantization_range}: the sum over "
                f"{clients} clients would overflow; must be <= {(MODULUS_RANGE - 1) // clients}"
            )
        return dataclasses.replace(self, max_weight=self.max_weight or largest)

    def strategy(self, strategy: Strategy, *, clients: int) -> Strategy:
        """Return the strategy as it is, if enough clients train.

        Raises
        ------
        DefenceError
            If fewer than two do: an aggregate of one hides nothing, and Flower has none.
        """
        if clients < 2:
            raise DefenceError(
                f"defence.name = 'secure-aggregation': {clients} client trains a round; must be "
                ">= 2 (clients, strategy.fraction)"
            )
        return strategy

    def grid(self, grid: Grid) -> Grid:
        """Return a grid whose train messages are answered by Flower's protocol."""
        from strategies.grids.secure_aggregation import secure_aggregation_grid

        return secure_aggregation_grid(grid, **self.describe())

    def client_mod(self) -> Mod:
        """Return the client's side of the protocol."""
        from strategies.grids.secure_aggregation import secure_aggregation_mod

        return secure_aggregation_mod

    def channel(self, observation: Observation) -> Channel:
        """Return the noise of rounding on the mean; on one client's own, that of its masks.

        A value falls between two levels and is rounded to either at random, without bias: a
        variance of step^2 / 6 a client, averaged over where the value lies. Masks are uniform
        over the whole clipping range.
        """
        if observation.view == "aggregate":
            step = 2 * self.clipping_range / self.quantization_range
            deviation = step * math.sqrt(len(observation.members) / 6)
        else:
            deviation = 2 * self.clipping_range / math.sqrt(12)
        deviation *= self.max_weight / observation.num_examples
        return Channel(
            noise={
                name: deviation
                for name, value in observation.returned.items()
                if not is_buffer(name, value)
            }
        )
