"""Rounds that are counted on from an earlier run."""

from __future__ import annotations

from collections.abc import Iterable

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from strategies.wrappers.base import StrategyWrapper


class RoundOffset(StrategyWrapper):
    """Offset round numbers by ``done``: after a resume Flower begins with 1 again.

    Parameters
    ----------
    strategy : Strategy
        The strategy that does the work.
    done : int
        Rounds before the first.
    """

    def __init__(self, strategy: Strategy, done: int) -> None:
        super().__init__(strategy)
        self.done = done

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure the next round of training."""
        return super().configure_train(server_round + self.done, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate the results of training."""
        return super().aggregate_train(server_round + self.done, replies)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure the next round of evaluation."""
        return super().configure_evaluate(server_round + self.done, arrays, config, grid)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Aggregate the results of evaluation."""
        return super().aggregate_evaluate(server_round + self.done, replies)
