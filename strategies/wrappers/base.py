"""A strategy around a strategy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from strategies.replies import arrays_of, validation_error


class StrategyWrapper(Strategy):
    """Passes everything on to another strategy, and remembers what each client was sent.

    Parameters
    ----------
    strategy : Strategy
        The strategy that does the work.
    client_names : mapping of int to str, optional
        Names by node id; a node without one is called by the order in which it was first sent
        something: client-00, client-01.
    """

    def __init__(
        self, strategy: Strategy, *, client_names: Mapping[int, str] | None = None
    ) -> None:
        self.strategy = strategy
        self._names = dict(client_names or {})
        self._sent: dict[int, ArrayRecord] = {}
        self._config = ConfigRecord()

    def name_of(self, node: int) -> str:
        """Return the name of the client at a node."""
        return self._names.setdefault(node, f"client-{len(self._names):02d}")

    def sent_to(self, node: int) -> ArrayRecord:
        """Return the arrays that a node was sent in this round; empty if there were none."""
        return self._sent.get(node, ArrayRecord())

    @property
    def sent_config(self) -> ConfigRecord:
        """The config that clients were sent with the arrays of this round; empty without one."""
        return self._config

    def faults(self, replies: Iterable[Message]) -> dict[int, str]:
        """Return what is wrong with the replies that cannot be used, by node id."""
        found = {}
        for reply in replies:
            node = reply.metadata.src_node_id
            if (reason := validation_error(reply, self.sent_to(node))) is not None:
                found[node] = reason
        return found

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure the next round of training."""
        messages = list(self.strategy.configure_train(server_round, arrays, config, grid))
        self._sent, self._config = {}, ConfigRecord()
        for message in sorted(messages, key=lambda m: m.metadata.dst_node_id):
            node = message.metadata.dst_node_id
            self.name_of(node)
            if len(message.content.array_records) == 1:
                self._sent[node] = arrays_of(message.content)
            for record in message.content.config_records.values():
                self._config = record  # Flower's strategies send one to all
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate the results of training."""
        return self.strategy.aggregate_train(server_round, replies)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure the next round of evaluation."""
        return self.strategy.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Aggregate the results of evaluation."""
        return self.strategy.aggregate_evaluate(server_round, replies)

    def summary(self) -> None:
        """Log the configuration of the wrapped strategy."""
        self.strategy.summary()
