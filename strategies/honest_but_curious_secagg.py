"""What an honest-but-curious server sees under secure aggregation."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import torch
from flwr.app import Message

from adversary.common.types import StateDict
from adversary.observation.observation import MASKED, Observation
from strategies.grids.secure_aggregation import masked_arrays
from strategies.honest_but_curious import HonestButCurious

AGGREGATE = "aggregate"
"""Stands for the client where the update is the mean over several."""


class HonestButCuriousSecAgg(HonestButCurious):
    """A server that sees the mean alone, as behind a :class:`~strategies.SecureAggregationGrid`.

    It attacks the mean over the clients as one large batch, under the name ``aggregate``. To show
    what a client's own masked vector gives away, it attacks one of these too, that of the first
    client, as if it were an update, where replies hold such vectors. Where ``select`` names none of
    a round's clients, the round is left out; else all that took part are in the aggregate.
    """

    def _observe(self, server_round: int, replies: list[Message]) -> list[Observation]:
        """Return the aggregate, and the masked vector of its first member."""
        try:
            if not self._attacked(server_round):
                return []
            read = [(self._observation(server_round, reply), reply) for reply in replies]
            usable = sorted(
                ((one, reply) for one, reply in read if one is not None),
                key=lambda pair: pair[0].client,
            )
            if not usable:
                return []
            return [_aggregate([one for one, _ in usable]), *_masked(*usable[0])]
        except Exception as error:
            self._give_up(server_round, AGGREGATE, error)
            return []

    def _shown(self, server_round: int) -> Iterable[str]:
        """Return whose updates a round to come will show: an aggregate's, and a masked one."""
        return (AGGREGATE, AGGREGATE) if self._attacked(server_round) else ()


def _aggregate(each: list[Observation]) -> Observation:
    """Return what the members' replies show together.

    Their floating-point arrays are one and the same mean. Their counts are their own, and are
    averaged as Flower does.
    """
    members = {one.client: one.num_examples for one in each}
    total = sum(members.values())
    counts: StateDict = {}
    for name in (n for n, value in each[0].returned.items() if not value.is_floating_point()):
        weighted = [one.num_examples / total * one.returned[name].double() for one in each]
        counts[name] = torch.stack(weighted).sum(0)
    return dataclasses.replace(
        each[0],
        client=AGGREGATE,
        returned=each[0].returned | counts,
        num_examples=total,
        view="aggregate",
        members=members,
    )


def _masked(member: Observation, reply: Message) -> list[Observation]:
    """Return a member's masked vector as if it were its update, where there is one."""
    masked = {name: torch.from_numpy(a) for name, a in masked_arrays(reply.content).items()}
    if not masked:
        return []
    return [
        dataclasses.replace(
            member,
            client=member.client + MASKED,
            returned=member.returned | masked,
            members={member.client: member.num_examples},
        )
    ]
