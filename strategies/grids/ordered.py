"""The same clients in the same order, whatever ids Flower draws and whoever answers first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flwr.app import Message
from flwr.serverapp import Grid

from strategies.grids.base import GridWrapper


class OrderedGrid(GridWrapper):
    """A grid that lists nodes, and returns their replies, in a fixed order.

    Node ids are drawn anew for every run and replies come as clients get done. With neither
    in a fixed order, the clients sampled from one seed would differ from run to run, and so
    would the last digits of every sum over replies.

    Parameters
    ----------
    grid : Grid
        Does the work.
    nodes : sequence of int
        Ids of the nodes to use, in their order.
    """

    def __init__(self, grid: Grid, nodes: Sequence[int]) -> None:
        super().__init__(grid)
        self._place = {node: place for place, node in enumerate(nodes)}

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes that are there, in their order."""
        return self._ordered(node for node in super().get_node_ids() if node in self._place)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send messages, and return the replies in the order of their nodes."""
        return self._sorted(super().send_and_receive(messages, timeout=timeout))

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that are there, in the order of their nodes."""
        return self._sorted(super().pull_messages(message_ids))

    def _ordered(self, nodes: Iterable[int]) -> list[int]:
        return sorted(nodes, key=self._rank)

    def _sorted(self, messages: Iterable[Message]) -> list[Message]:
        return sorted(messages, key=lambda m: self._rank(m.metadata.src_node_id))

    def _rank(self, node: int) -> int:
        return self._place.get(node, len(self._place))
