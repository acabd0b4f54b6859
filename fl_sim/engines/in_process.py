"""A federation in one process, one client after the other: for tests and quick sweeps."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from logging import ERROR, WARNING
from pathlib import Path

from flwr.app import Context, Error, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.serverapp import Grid
from flwr.supercore import log
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from adversary.common.convert import Value
from adversary.common.errors import one_line_error
from adversary.common.torch_state import preserved_rng_state
from fl_sim import client_app, server_app
from fl_sim.client_names import client_name
from fl_sim.settings.parse import flatten
from fl_sim.settings.schema import Settings

DEFAULT_CLIENTS = 4
"""How many clients there are where the settings leave it open."""

_FIRST_NODE = 1000


class InProcessGrid(Grid):
    """A Grid that runs a ClientApp in this process; no Ray, no SuperLink.

    Every node keeps its own context over the rounds and gets its own copy of a message. A client
    that raises answers with an error, as it would elsewhere, and its use of the global random
    states does not reach the server or other clients.

    Parameters
    ----------
    app : ClientApp
        What every client runs.
    clients : int
        Number of nodes; each knows its ``partition-id`` and ``num-partitions``.
    run_config : mapping, optional
        The run config that clients see.
    """

    def __init__(
        self, app: ClientApp, clients: int, run_config: Mapping[str, Value] | None = None
    ) -> None:
        # A message takes its sender and its run from these process-wide values.
        TaskIdentity.run_id, TaskIdentity.task_id = 1, 1
        TaskIdentity.node_id = SUPERLINK_NODE_ID
        self._app = app
        self._contexts = {
            _FIRST_NODE + i: Context(
                run_id=1,
                node_id=_FIRST_NODE + i,
                node_config={"partition-id": i, "num-partitions": clients},
                state=RecordDict(),
                run_config=dict(run_config or {}),
            )
            for i in range(clients)
        }
        self._replies: dict[str, Message] = {}
        self._pushed = 0
        self._run: Run | None = None

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of all nodes."""
        return list(self._contexts)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Let each client handle its message, and return the replies in the same order."""
        return [self._handle(message) for message in messages]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Let each client handle its message, and return where its reply is kept."""
        ids = []
        for message in messages:
            self._pushed += 1
            ids.append(str(self._pushed))
            # As Flower's grids do: replies name the message that they answer.
            message.metadata.__dict__["_message_id"] = ids[-1]
            self._replies[ids[-1]] = self._handle(message)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that are kept under these ids, and forget them."""
        return [self._replies.pop(i) for i in message_ids if i in self._replies]

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Create a message."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def set_run(self, run: Run) -> None:
        """Set the run that the grid works for."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run that the grid works for."""
        if self._run is None:
            raise RuntimeError("no run was set")
        return self._run

    def _handle(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        try:
            with preserved_rng_state():
                return self._app(copy.deepcopy(message), self._contexts[node])
        except Exception as error:
            if message.metadata.message_type == MessageType.EVALUATE:  # the server tells of others
                log(ERROR, "%s: %s", client_name(node - _FIRST_NODE), one_line_error(error))
            reason = f"{type(error).__name__}: {error}"
            failed = Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason=reason)
            return Message(failed, reply_to=message)


def run_in_process(settings: Settings) -> Path:
    """Run the whole federation in this process; return the path of its report.

    Raises
    ------
    ValueError, RuntimeError
        As :func:`fl_sim.server_app.serve`.
    """
    grid = InProcessGrid(client_app.app, settings.clients or DEFAULT_CLIENTS, flatten(settings))
    with _quiet_flower():
        return server_app.serve(grid, settings)


@contextmanager
def _quiet_flower() -> Iterator[None]:
    """Leave out what Flower logs about every step; warnings stay."""
    logger = logging.getLogger("flwr")
    before = logger.level
    logger.setLevel(WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
