"""What the server sees of one client in one round, and nothing else."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from adversary.common.files import replacing, sha256
from adversary.observation.schedules import SCHEDULES

StateDict = dict[str, Tensor]
Loss = Literal["cross-entropy", "bce"]
Optimizer = Literal["sgd", "adam"]

MASKED = "-masked"
"""Ends the name of a client whose update came masked, and is read as if it had not."""

SENT = "sent"
"""The folder, beside recorded updates, of what was sent to the clients."""

_SHA256 = re.compile("[0-9a-f]{64}")


class ObservationError(ValueError):
    """An update that cannot be read or that no attack can use; the message names what and where."""


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


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One client's update as the server holds it: what was sent, what came back, the recipe.

    Parameters
    ----------
    round : int
        Server round, from 1.
    client : str
        The server's own name for the client.
    sent, returned : dict of str to Tensor
        State dicts (parameters and buffers) on the CPU.
    num_examples : int
        What the client reported as its number of training images.
    recipe : TrainingRecipe
        The local training that the server prescribed.
    view : {"client", "aggregate"}
        Whether ``returned`` is one client's own or the mean of several.
    members : mapping of str to int
        For an aggregate, who is in it, with the number of training images of each; for one
        masked update, whose it is.
    """

    round: int
    client: str
    sent: StateDict
    returned: StateDict
    num_examples: int
    recipe: TrainingRecipe
    view: Literal["client", "aggregate"] = "client"
    members: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Whose update it is, for messages."""
        return f"{self.client} in round {self.round}"

    @property
    def images(self) -> int:
        """Number of distinct images in the update."""
        return sum(map(self.recipe.images, self._examples))

    @property
    def steps(self) -> int:
        """Number of local steps in the update; in an aggregate, the most of any member."""
        return max(map(self.recipe.steps, self._examples))

    @property
    def _examples(self) -> list[int]:
        return list(self.members.values()) or [self.num_examples]

    def check(self) -> None:
        """Raise :class:`ObservationError` where the update is unfit for any attack."""
        where = self.name
        if self.num_examples < 1:
            raise ObservationError(f"{where}: reports {self.num_examples} examples; need >= 1")
        for name, value in self.sent.items():
            if name not in self.returned:
                continue  # partial sharing: what is not sent is not observed
            other = self.returned[name]
            if other.shape != value.shape:
                raise ObservationError(
                    f"{where}: {name} has shape {tuple(other.shape)}, sent {tuple(value.shape)}"
                )
            if not bool(torch.isfinite(other).all()):
                raise ObservationError(f"{where}: {name} holds NaN or infinite values")
        if not self.sent.keys() & self.returned.keys():
            raise ObservationError(f"{where}: shares no array with the model that was sent")

    def save(self, path: Path, *, sent: Path | None = None) -> Path:
        """Write ``path`` (safetensors) and, beside it, the same name with ``.json``.

        What was sent goes into a file of its own, in the folder ``sent`` beside them and named by
        its SHA-256: a server mostly sends the same to all.

        Parameters
        ----------
        path : Path
            Where to write what came back.
        sent : Path, optional
            What an earlier call returned, for the same folder and the same that was sent: it is
            not written again.

        Returns
        -------
        Path
            The file that holds what was sent.
        """
        if sent is None or not sent.exists():
            content, digest = _content(self.sent)
            sent = path.parent / SENT / f"{digest}.safetensors"
            with replacing(sent) as temporary:
                temporary.write_bytes(content)
        content, digest = _content(self.returned)
        about: dict[str, Any] = {
            "round": self.round,
            "client": self.client,
            "num_examples": self.num_examples,
            "view": self.view,
            "members": dict(self.members),
            "recipe": dataclasses.asdict(self.recipe),
            "sent_sha256": sent.stem,
            "returned_sha256": digest,
        }
        with replacing(path) as temporary:
            temporary.write_bytes(content)
        with replacing(path.with_suffix(".json")) as temporary:
            temporary.write_text(json.dumps(about, indent=1))
        return sent

    @classmethod
    def load(cls, path: Path) -> Observation:
        """Read what :meth:`save` wrote; nothing is unpickled.

        Raises
        ------
        ObservationError
            If one of the files is missing, truncated or not of an observation, or the tensors are
            not those that were written.
        """
        try:
            about = json.loads(path.with_suffix(".json").read_text())
            recipe = about.pop("recipe")
            recipe["class_weights"] = tuple(recipe.get("class_weights", ()))
            recipe = TrainingRecipe(**recipe)
            if not _SHA256.fullmatch(name := about.pop("sent_sha256")):
                raise ValueError("what was sent is not named by a SHA-256")
            sent = _read(path.parent / SENT / f"{name}.safetensors", name)
            returned = _read(path, about.pop("returned_sha256"))
            return cls(sent=sent, returned=returned, recipe=recipe, **about)
        except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
            raise ObservationError(f"{path}: not a recorded update ({error})") from error


def _content(state: StateDict) -> tuple[bytes, str]:
    """Return the content of a state dict's file, and its SHA-256."""
    content = save({name: value.contiguous() for name, value in state.items()})
    return content, hashlib.sha256(content).hexdigest()


def _read(path: Path, digest: str) -> StateDict:
    """Return the tensors of a file of which the SHA-256 is known.

    Raises
    ------
    OSError, ValueError, SafetensorError
        If there is no such file, or something else in it.
    """
    if sha256(path) != digest:
        raise ValueError(f"the tensors in {path.name} are not those that were written")
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
