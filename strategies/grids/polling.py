"""A grid that lets the server do something while it waits for its clients."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from flwr.app import Message
from flwr.serverapp import Grid

from strategies.grids.base import GridWrapper

POLL_SECONDS = 0.1
"""Seconds between looks for replies."""


class PollingGrid(GridWrapper):
    """Sends and receives as Flower's grids do, and calls a function between looks for replies.

    Parameters
    ----------
    grid : Grid
        Does the work.
    meanwhile : callable
        Called in the server's own thread; it should be quick.
    """

    def __init__(self, grid: Grid, meanwhile: Callable[[], None]) -> None:
        super().__init__(grid)
        self._meanwhile = meanwhile

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send messages, and return the replies that came within ``timeout`` seconds."""
        awaited = set(self.push_messages(messages))
        del messages  # as much memory as all models that were sent
        end = None if timeout is None else time.monotonic() + timeout
        replies: list[Message] = []
        while awaited and (end is None or time.monotonic() < end):
            came = list(self.pull_messages(awaited))
            replies += came
            awaited -= {reply.metadata.reply_to_message_id for reply in came}
            self._meanwhile()
            if awaited:
                time.sleep(POLL_SECONDS)
        return replies
