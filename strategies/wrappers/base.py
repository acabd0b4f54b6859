"""A strategy around a strategy."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from adversary.common.errors import UserError
from strategies.replies import NUM_EXAMPLES, arrays_of, validation_error
from strategies.wrappers.redirection import redirected


class StrategyError(UserError, TypeError):
    """Something that is no strategy, or no argument of one; one line."""


class StrategyWrapper(Strategy):
    """Passes everything on to another strategy, and remembers what each client was sent.

    What the other strategy has of its own stays in reach: its ``start`` runs, its methods and
    attributes are found here, and what is set here and belongs to it is set there. What a subclass
    keeps itself it declares in its body (``ledger: Ledger | None``).

    Parameters
    ----------
    strategy : Strategy
        The strategy that does the work.
    client_names : mapping of int to str, optional
        Names by node id; a node without one is called by the order in which it was first sent
        something: client-00, client-01.

    Raises
    ------
    StrategyError
        If it is no strategy of flwr.serverapp.
    """

    strategy: Strategy
    _names: dict[int, str]
    _sent: dict[int, ArrayRecord]
    _config: ConfigRecord

    def __init__(
        self, strategy: Strategy, *, client_names: Mapping[int, str] | None = None
    ) -> None:
        if not isinstance(strategy, Strategy):
            raise StrategyError(_refusal(strategy))
        self.strategy = strategy
        self._names = dict(client_names or {})
        self._sent: dict[int, ArrayRecord] = {}
        self._config = ConfigRecord()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "strategy" not in vars(self):  # copies ask before there is one
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self.strategy, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _declared(type(self)) and hasattr(wrapped := self.wrapped, name):
            setattr(wrapped, name, value)
        else:
            super().__setattr__(name, value)

    @property
    def wrapped(self) -> Strategy:
        """The strategy within all wrappers of this package."""
        strategy: Any = vars(self).get("strategy")  # None while it is being built
        return strategy.wrapped if isinstance(strategy, StrategyWrapper) else strategy

    @property
    def weight_key(self) -> str:
        """The metric by which the wrapped strategy weighs clients: their number of images."""
        strategy: Any = self.wrapped
        while not hasattr(strategy, "weighted_by_key") and hasattr(strategy, "strategy"):
            strategy = strategy.strategy  # Flower's own wrappers
        return str(getattr(strategy, "weighted_by_key", NUM_EXAMPLES))

    def start(self, *args: Any, **kwargs: Any) -> Result:
        """Run the wrapped strategy's own ``start``, whatever it takes, through this wrapper."""
        with redirected(self.strategy, self):
            return self.strategy.start(*args, **kwargs)

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
            if (reason := validation_error(reply, self.sent_to(node), self.weight_key)) is not None:
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


@functools.cache
def _declared(cls: type) -> frozenset[str]:
    """Return the names that a class of wrappers keeps itself."""
    return frozenset(name for owner in cls.__mro__ for name in (*vars(owner), *_annotated(owner)))


def _annotated(cls: type) -> Mapping[str, Any]:
    return vars(cls).get("__annotations__", {})


def _refusal(strategy: object) -> str:
    """Return, in one line, why something is not wrapped."""
    cls = type(strategy)
    said = f"strategy is a {cls.__module__}.{cls.__qualname__}"
    if any(base.__module__.startswith("flwr.server.strategy") for base in cls.__mro__):
        return f"{said}, of Flower's former interface: take one of flwr.serverapp.strategy"
    return f"{said}: must be a strategy of flwr.serverapp.strategy"
