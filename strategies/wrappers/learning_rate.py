"""Send each round's learning rate to the clients."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from strategies.messages import LEARNING_RATE
from strategies.wrappers.base import StrategyWrapper


class LearningRateSchedule(StrategyWrapper):
    """Sends clients the learning rate of each round, as ``lr`` in the config.

    Parameters
    ----------
    strategy : Strategy
        The strategy that does the work.
    rate : callable
        From a round, from 1, to the learning rate; asked when the round begins.
    """

    def __init__(self, strategy: Strategy, rate: Callable[[int], float]) -> None:
        super().__init__(strategy)
        self.rate = rate

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure the next round of training."""
        config[LEARNING_RATE] = self.rate(server_round)
        return super().configure_train(server_round, arrays, config, grid)
