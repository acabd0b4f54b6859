"""What the server sees of one client in one round, and nothing else."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from adversary.common.errors import UserError
from adversary.common.files import atomic_write, sha256
from adversary.common.types import StateDict
from adversary.observation.recipe import TrainingRecipe

View = Literal["client", "aggregate"]
"""Whose update it is: one client's, or the mean of several."""

MASKED = "-masked"
"""Ends the name of a client whose update came masked, and is read as if it had not."""

SENT = "sent"
"""The folder, beside recorded updates, of what was sent to the clients."""

_SHA256 = re.compile("[0-9a-f]{64}")


class ObservationError(UserError, ValueError):
    """An update that cannot be read or that no attack can use; the message names what and where."""


class UpdateKey(NamedTuple):
    """Whose update it is, of which round."""

    round: int
    client: str


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
    notes : tuple of str
        What of the recipe was estimated or corrected, in words; each attack repeats them.
    flags : tuple of str
        Flags that the update raises by itself; each attack raises them too.
    """

    round: int
    client: str
    sent: StateDict
    returned: StateDict
    num_examples: int
    recipe: TrainingRecipe
    view: View = "client"
    members: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()

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
            content, digest = _to_json(self.sent)
            sent = path.parent / SENT / f"{digest}.safetensors"
            with atomic_write(sent) as temporary:
                temporary.write_bytes(content)
        content, digest = _to_json(self.returned)
        about: dict[str, Any] = {
            "round": self.round,
            "client": self.client,
            "num_examples": self.num_examples,
            "view": self.view,
            "members": dict(self.members),
            "recipe": dataclasses.asdict(self.recipe),
            "notes": self.notes,
            "flags": self.flags,
            "sent_sha256": sent.stem,
            "returned_sha256": digest,
        }
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
        with atomic_write(path.with_suffix(".json")) as temporary:
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
            about |= {name: tuple(about.get(name, ())) for name in ("notes", "flags")}
            if not _SHA256.fullmatch(name := about.pop("sent_sha256")):
                raise ValueError("what was sent is not named by a SHA-256")
            sent = _read(path.parent / SENT / f"{name}.safetensors", name)
            returned = _read(path, about.pop("returned_sha256"))
            return cls(sent=sent, returned=returned, recipe=recipe, **about)
        except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
            raise ObservationError(f"{path}: not a recorded update ({error})") from error


def _to_json(state: StateDict) -> tuple[bytes, str]:
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
