"""Before the first round: which clients are there, and which partition has each."""

from __future__ import annotations

import time
from collections.abc import Callable

from flwr.app import Message, MessageType, RecordDict
from flwr.serverapp import Grid

from adversary.common.errors import UserError
from fl_sim.client_app import PARTITION, PARTITIONS
from fl_sim.settings.rules import SettingsError
from strategies.replies import failure_message

POLL_SECONDS = 0.5
REPORT_SECONDS = 10.0
"""Seconds between lines on how many have come."""

CLIENTS_PER_REQUEST = 50
"""Clients asked at once: what Flower's simulation does for a message grows with their number."""


class ClientDiscoveryError(UserError, RuntimeError):
    """The clients that a run needs are not there; one line."""


def discover_clients(
    grid: Grid,
    expected: int,
    *,
    timeout: float = 120.0,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[int, int]:
    """Wait until all clients are there, and return their partitions' numbers by node id.

    Clients know how many of them there are, so the first to answer tells how many to wait for.

    Parameters
    ----------
    grid : Grid
        Reaches the clients.
    expected : int
        The ``clients`` setting; 0 takes those there are.
    timeout : float
        Seconds to wait for the next clients, or for the next answers.
    tell : callable
        Called with a line of progress every few seconds.

    Returns
    -------
    dict of int to int
        Ordered by partition.

    Raises
    ------
    SettingsError
        If there is another number of clients than expected.
    ClientDiscoveryError
        If clients do not come, do not answer, or have the same partition.
    """
    deadline = time.monotonic() + timeout
    told = time.monotonic()
    answers: dict[int, tuple[int, int]] = {}
    wanted = 0
    while not wanted or len(answers) < wanted:
        new = [node for node in grid.get_node_ids() if node not in answers][:CLIENTS_PER_REQUEST]
        came = _ask(grid, new, timeout)
        answers |= came
        deadline = time.monotonic() + timeout if came else deadline
        if time.monotonic() - told >= REPORT_SECONDS:
            told = time.monotonic()
            tell(f"{len(answers)} of {wanted or expected or 'the'} clients are there")
        wanted = next(iter(answers.values()))[1] if answers else 0
        if expected and wanted and wanted != expected:
            raise SettingsError(
                f"clients = {expected}: found {wanted} SuperNodes; must be {wanted} or 0 (all "
                f"there are), or start {expected} with --federation-config "
                f"'num-supernodes={expected}'"
            )
        if not came and (not wanted or len(answers) < wanted):
            if time.monotonic() > deadline:
                raise ClientDiscoveryError(
                    f"{len(answers)} of {wanted or expected or 'any'} clients came within "
                    f"{timeout:g} s"
                )
            time.sleep(POLL_SECONDS)
    partitions = {node: number for node, (number, _) in answers.items()}
    if sorted(partitions.values()) != list(range(wanted)):
        raise ClientDiscoveryError(
            f"clients have the partitions {sorted(partitions.values())}; each of 0 to "
            f"{wanted - 1} must be there once"
        )
    return dict(sorted(partitions.items(), key=lambda item: item[1]))


def _ask(grid: Grid, nodes: list[int], timeout: float) -> dict[int, tuple[int, int]]:
    """Return the partition of each node and the number of partitions that it knows of."""
    questions = [
        Message(RecordDict(), dst_node_id=node, message_type=MessageType.QUERY) for node in nodes
    ]
    answers = {}
    for reply in grid.send_and_receive(questions, timeout=timeout) if questions else ():
        if reply.has_error():
            raise ClientDiscoveryError(f"a client cannot start: {failure_message(reply)}")
        metrics = reply.content.metric_records["partition"]
        answers[reply.metadata.src_node_id] = (
            int(metrics[PARTITION]),  # type: ignore[arg-type]
            int(metrics[PARTITIONS]),  # type: ignore[arg-type]
        )
    return answers
