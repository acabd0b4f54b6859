"""How clients train, as the server has set it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from adversary.observation.schedules import SCHEDULES

Loss = Literal["cross-entropy", "bce"]
Optimizer = Literal["sgd", "adam"]


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """The local training that the server itself prescribes, hence knows.

    Parameters
    ----------
    lr : float
        Learning rate of the clients in this round, > 0.
    batch_size : int
        Images a mini-batch, >= 1.
    loss : {"cross-entropy", "bce"}
        Softmax cross-entropy over C outputs, or binary cross-entropy over C sigmoid outputs;
        both averaged (over the batch, and for ``bce`` over the outputs too).
    local_epochs : int
        Passes over the client's data a round, >= 1.
    max_steps : int
        Mini-batches a round at most; 0 means no limit.
    momentum, weight_decay : float
        Of the clients' optimiser; momentum is SGD's and starts from zero in every round.
    batch_norm : {"train", "eval"}
        Whether batch normalisation uses the batch's statistics or the running ones.
    update : {"weights", "gradient"}
        Whether clients return trained weights or the gradient itself.
    optimizer : {"sgd", "adam"}
        Of the clients; the moments of Adam start from zero in every round.
    drop_last : bool
        Whether images that fill no whole mini-batch sit a round out.
    schedule : str
        Learning rate over the local steps of a round, a key of
        :data:`~adversary.observation.schedules.SCHEDULES`.
    decay, decay_every
        Factor of the ``step`` schedule, and steps between two decays.
    class_weights : tuple of float
        For ``bce`` the weight of the positive images of each output, for ``cross-entropy`` that
        of each class; empty for none. See :mod:`adversary.problem.losses`.
    proximal_mu : float
        Weight of FedProx's term, mu / 2 * ||w - w_sent||^2 (Li et al. 2020).
    """

    lr: float
    batch_size: int
    loss: Loss = "cross-entropy"
    local_epochs: int = 1
    max_steps: int = 0
    momentum: float = 0.0
    weight_decay: float = 0.0
    batch_norm: Literal["train", "eval"] = "train"
    update: Literal["weights", "gradient"] = "weights"
    optimizer: Optimizer = "sgd"
    drop_last: bool = False
    schedule: str = "constant"
    decay: float = 0.1
    decay_every: int = 1
    class_weights: tuple[float, ...] = ()
    proximal_mu: float = 0.0

    def steps(self, num_examples: int) -> int:
        """Return the number of local steps that a client with ``num_examples`` images takes."""
        if self.update == "gradient":
            return 1
        steps = self.local_epochs * math.ceil(self.an_epoch(num_examples) / self.batch_size)
        return min(steps, self.max_steps) if self.max_steps else steps

    def images(self, num_examples: int) -> int:
        """Return how many distinct images take part in a round."""
        return min(self.an_epoch(num_examples), self.steps(num_examples) * self.batch_size)

    def an_epoch(self, num_examples: int) -> int:
        """Return how many images an epoch uses: all, or those that fill mini-batches."""
        return num_examples - (num_examples % self.batch_size if self.drop_last else 0)

    def rates(self, steps: int) -> list[float]:
        """Return the learning rate of each of ``steps`` local steps."""
        schedule = SCHEDULES[self.schedule]
        return [
            self.lr * schedule(place, steps, self.decay, self.decay_every) for place in range(steps)
        ]


ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-8
"""Constants of Adam: torch's, which the paper recommends."""
