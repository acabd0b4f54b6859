"""Which images a client used in a round: for scoring only.

The simulation knows the partition and every seed, so it can work out afterwards what a client
trained on. Nothing of it travels in a reply, and no attack sees it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from adversary.observation.observation import Observation
from adversary.scoring.image_scores import Blends, Truth

if TYPE_CHECKING:
    from fl_sim.federation import Assembly

_PREFIX = "client-"


def client_name(number: int) -> str:
    """Return the name of the client with a partition's number, from 0."""
    return f"{_PREFIX}{number:02d}"


def client_number(name: str) -> int | None:
    """Return the partition's number of a client; None if it is not one of this federation."""
    number = name.removeprefix(_PREFIX)
    return int(number) if name.startswith(_PREFIX) and number.isdigit() else None


def truth_of(run: Assembly, observation: Observation) -> Truth | None:
    """Return the distinct images of an update in the order of their use; None if unknown.

    Those of an aggregate are the images of its members, one after the other. Where the network
    saw blends of them, these are told as well.
    """
    alone = (observation.client,) if observation.view == "client" else ()
    names = tuple(observation.members) or alone
    if not names:
        return None
    numbers = [client_number(name) for name in names]
    images, labels, batches = [], [], []
    files: list[str] = []
    blends: list[Blends] = []
    for number in numbers:
        if number is None or number >= len(run.parts):
            return None
        part, used = run.parts[number], run.used(observation.round, number)
        place = {index: len(files) + i for i, index in enumerate(used)}
        steps = run.batches(observation.round, number)
        batches.append(tuple(torch.tensor([place[i] for i in b.tolist()]).long() for b in steps))
        if (seen := run.blends(observation.round, number)) is not None:
            sources = torch.tensor([[place[i] for i in pair] for pair in seen.sources.tolist()])
            blends.append(dataclasses.replace(seen, sources=sources))
        images.append(run.inputs(observation.round, number)[used])
        labels.append(part.labels[used])
        files += [part.names[i] for i in used]
    return Truth(
        images=torch.cat(images),
        labels=torch.cat(labels),
        names=tuple(files),
        batches=tuple(batches),
        blends=_joined(blends) if blends else None,
    )


def _joined(clients: Sequence[Blends]) -> Blends:
    """Return the blends of several clients, one after the other."""
    batches, first = [], 0
    for one in clients:
        batches.append(tuple(first + batch for own in one.batches for batch in own))
        first += len(one.images)
    return Blends(
        images=torch.cat([one.images for one in clients]),
        labels=torch.cat([one.labels for one in clients]),
        sources=torch.cat([one.sources for one in clients]),
        batches=tuple(batches),
    )
