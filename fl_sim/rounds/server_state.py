"""All that the server carries from round to round, in one file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from adversary.common.errors import UserError
from adversary.common.files import atomic_write
from fl_sim.rounds.early_stopping import Progress
from strategies.strategy_state import StrategyState

_GLOBAL, _MEMORY, _RANDOM = "global/", "memory/", "random/"
_INVARIANTS = "facts"


class ServerStateError(UserError, ValueError):
    """A file from which no run can go on; one line."""


@dataclass(frozen=True, kw_only=True)
class ServerState:
    """The server at the end of a round.

    Parameters
    ----------
    round : int
        The last round that is done.
    arrays : ArrayRecord
        The global model.
    memory : Memory
        What the strategy has gathered.
    took_part : mapping of str to int
        In how many rounds each client took part.
    progress : Progress
        What early stopping and plateaus go by.
    random : mapping of str to ndarray
        States of the global generators, from :func:`random_states`.
    """

    round: int
    arrays: ArrayRecord
    memory: StrategyState
    took_part: Mapping[str, int]
    progress: Progress
    random: Mapping[str, NDArray]

    def save(self, path: Path) -> None:
        """Write the file in place of an earlier one; no reader ever sees half of it.

        Raises
        ------
        OSError
            If it cannot be written; an earlier one is then as it was.
        """
        tensors = {_GLOBAL + name: array.numpy() for name, array in self.arrays.items()}
        tensors |= {_MEMORY + name: value for name, value in self.memory.arrays.items()}
        tensors |= {_RANDOM + name: value for name, value in self.random.items()}
        facts = {
            "round": self.round,
            "order": list(self.arrays),  # safetensors has its own
            "memory": self.memory.facts,
            "took_part": dict(self.took_part),
            "progress": dataclasses.asdict(self.progress),
        }
        in_order = {name: np.array(value, order="C") for name, value in tensors.items()}
        facts["sha256"] = _digest(in_order)
        content = save(in_order, metadata={_INVARIANTS: json.dumps(facts)})
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)

    @classmethod
    def load(cls, path: Path) -> ServerState:
        """Read what :meth:`save` wrote; nothing is unpickled.

        Raises
        ------
        ServerStateError
            If there is no such file, or something else in it than was written.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                facts = json.loads(file.metadata()[_INVARIANTS])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if facts.get("sha256", written := _digest(tensors)) != written:
                raise ValueError("its arrays are not those that were written")
            return cls(
                round=facts["round"],
                arrays=ArrayRecord({n: Array(tensors[_GLOBAL + n]) for n in facts["order"]}),
                memory=StrategyState(_below(tensors, _MEMORY), facts["memory"]),
                took_part=facts["took_part"],
                progress=Progress(**facts["progress"]),
                random=_below(tensors, _RANDOM),
            )
        except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
            raise ServerStateError(f"{path}: no run can go on from it ({error})") from error


def random_states() -> dict[str, NDArray]:
    """Return the states of the global generators, from which Flower samples and draws noise."""
    _, python, python_gauss = random.getstate()
    state: Any = np.random.get_state()  # noqa: NPY002
    _, keys, place, has_gauss, gauss = state
    return {
        "python": np.array(python, dtype=np.int64),
        "python_gauss": np.array(np.nan if python_gauss is None else python_gauss),
        "numpy": np.array([*keys, place, has_gauss], dtype=np.int64),
        "numpy_gauss": np.array(gauss, dtype=np.float64),
        "torch": torch.get_rng_state().numpy(),
    }


def set_random_states(states: Mapping[str, NDArray]) -> None:
    """Put the global generators into the states that :func:`random_states` returned."""
    version, _, _ = random.getstate()
    next_gauss = float(states["python_gauss"])
    random.setstate(
        (version, tuple(states["python"].tolist()), None if np.isnan(next_gauss) else next_gauss)
    )
    *keys, place, has_gauss = states["numpy"].tolist()
    gauss = float(states["numpy_gauss"])
    np.random.set_state(  # noqa: NPY002
        ("MT19937", np.array(keys, dtype=np.uint32), place, has_gauss, gauss)
    )
    torch.set_rng_state(torch.from_numpy(states["torch"].copy()))


def _digest(tensors: Mapping[str, NDArray]) -> str:
    """Return the SHA-256 of all names and values, in hexadecimal digits."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()


def _below(tensors: Mapping[str, NDArray], prefix: str) -> dict[str, NDArray]:
    return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
