"""The account of a client mod put to the test, without a federation or data.

A server that tells two things apart which a client may have sent has more than the claimed epsilon
allows, if it is right too often. Here each canary is a client whose update is one of the two that a
clipping mod leaves furthest apart, and the server projects what arrives on the line between them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Literal

import torch
from flwr.app import (
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp.typing import ClientAppCallable, Mod
from flwr.supercore.task_identity import TaskIdentity
from torch import Tensor

from adversary.common.seeding import generator
from adversary.identification.one_run_audit import AccountAudit, AuditError, audited, fair_coins
from strategies.mods.updates import ROUND
from strategies.replies import NUM_EXAMPLES, arrays_of

Neighbours = Literal["replace one", "add or remove one"]
"""What a guarantee is about: another update in a client's place, or none (no change)."""

LENGTH = 1e3
"""L2 norm of the canaries' updates before the mod clips them."""

_ENTRIES = 64

_OTHER: dict[str, float] = {"replace one": -1.0, "add or remove one": 1e-9}
"""Times the canary's update: what a client sends in its place. Next to nothing, and not nothing:
``LocalDpMod`` divides by an update's norm."""


def audit_mod(
    mods: Mod | Sequence[Mod],
    *,
    epsilon: float,
    delta: float,
    rounds: int = 1,
    canaries: int = 1000,
    neighbours: Neighbours = "replace one",
    seed: int = 0,
) -> AccountAudit:
    """Return what a server can prove of the epsilon that mods are said to earn.

    Parameters
    ----------
    mods : Mod or sequence of Mod
        As in ``@app.train(mods=[...])``. Their noise is their own.
    epsilon, delta : float
        Claimed for one client, over all rounds together.
    rounds : int
        In how many each client answers, >= 1.
    canaries : int
        Clients, >= 1: the more, the nearer comes the proof to what is earned.
    neighbours : {"replace one", "add or remove one"}
        The guarantee's; two clipped updates are up to twice the clipping norm apart, an update and
        none once.
    seed : int
        Of coins and updates.

    Raises
    ------
    AuditError
        One line for what does not fit, or where a mod answers with an error.
    """
    for name, value, valid, allowed in (
        ("rounds", rounds, rounds >= 1, "an integer >= 1"),
        ("canaries", canaries, canaries >= 1, "an integer >= 1"),
        ("neighbours", neighbours, neighbours in _OTHER, " or ".join(_OTHER)),
    ):
        if not valid:
            raise AuditError(f"{name} = {value}: must be {allowed}")
    draws = generator(seed, "account audit")
    inside = fair_coins(canaries, draws)
    line = torch.randn(_ENTRIES, generator=draws, dtype=torch.float64)
    line /= line.norm()
    chain = [mods] if callable(mods) else list(mods)
    updates = {True: LENGTH * line, False: _OTHER[neighbours] * LENGTH * line}
    with _quiet():
        scores = torch.stack([
            _arrived(chain, client, updates[one], rounds) @ line
            for client, one in enumerate(inside.tolist())
        ])  # fmt: skip
    # Half of the canaries took part, so their mean lies between the two: the server sees it.
    return audited(scores - scores.mean(), inside, epsilon=epsilon, delta=delta)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what mods log of each update from the screen."""
    flower = logging.getLogger("flwr")
    before = flower.level
    flower.setLevel(logging.WARNING)
    try:
        yield
    finally:
        flower.setLevel(before)


def _arrived(chain: Sequence[Mod], client: int, update: Tensor, rounds: int) -> Tensor:
    """Return the sum over rounds of what arrives of a client's update, (_ENTRIES,), float64."""
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, client + 1
    context = Context(
        run_id=1, node_id=client + 1, node_config={}, state=RecordDict(), run_config={}
    )

    def answer(message: Message, context: Context) -> Message:
        metrics = MetricRecord({NUM_EXAMPLES: 1})
        content = RecordDict({"arrays": _record(update), "metrics": metrics})
        return Message(content, reply_to=message)

    app: ClientAppCallable = answer
    for mod in reversed(chain):
        app = partial(_through, mod, app)
    total = torch.zeros(_ENTRIES, dtype=torch.float64)
    for number in range(1, rounds + 1):
        config = ConfigRecord({ROUND: number})
        content = RecordDict({"arrays": _record(torch.zeros(_ENTRIES)), "config": config})
        reply = app(Message(content, client + 1, MessageType.TRAIN), context)
        if reply.has_error():
            raise AuditError(f"a mod answers with an error: {reply.error.reason}")
        (value,) = arrays_of(reply.content).to_torch_state_dict().values()
        total += value.double()
    return total


def _through(mod: Mod, app: ClientAppCallable, message: Message, context: Context) -> Message:
    return mod(message, context, app)


def _record(update: Tensor) -> ArrayRecord:
    return ArrayRecord({"weight": update.float()})
