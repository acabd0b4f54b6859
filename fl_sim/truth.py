"""Which images a client used in a round: for scoring only.

The simulation knows the partition and every seed, so it can work out afterwards what a client
trained on. Nothing of it travels in a reply, and no attack sees it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from adversary.evaluation import Truth
from adversary.observation import Observation, TrainingRecipe
from fl_sim.data import XrayDataset
from fl_sim.training import batches

_PREFIX = "client-"


def client_name(number: int) -> str:
    """Return the name of the client with a partition's number, from 0."""
    return f"{_PREFIX}{number:02d}"


def client_number(name: str) -> int | None:
    """Return the partition's number of a client; None if it is not one of this federation."""
    number = name.removeprefix(_PREFIX)
    return int(number) if name.startswith(_PREFIX) and number.isdigit() else None


class Truths:
    """From an observation to the images behind it.

    Parameters
    ----------
    parts : sequence of XrayDataset
        The private X-rays of each client.
    recipe : TrainingRecipe
        The local training.
    seed : int
        The run seed.
    """

    def __init__(self, parts: Sequence[XrayDataset], recipe: TrainingRecipe, *, seed: int) -> None:
        self.parts = parts
        self.recipe = recipe
        self.seed = seed

    def __call__(self, observation: Observation) -> Truth | None:
        """Return the distinct images of an update in the order of their use; None if unknown."""
        number = client_number(observation.client)
        if number is None or number >= len(self.parts) or observation.view != "client":
            return None
        part = self.parts[number]
        used = batches(
            len(part), self.recipe, seed=self.seed, round=observation.round, client=number
        )
        indices = list(dict.fromkeys(torch.cat(used).tolist()))
        return Truth(
            images=part.tensor(indices),
            labels=part.labels[indices],
            names=tuple(part.names[i] for i in indices),
        )
