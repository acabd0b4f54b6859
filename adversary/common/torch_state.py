"""Torch's global state, set for a while: random generators, threads, the device."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def preserved_rng_state() -> Iterator[None]:
    """Give the global generators of Python, NumPy and torch back as they were.

    The project's attacks draw from generators of their own; those of others may not, and the
    server samples its clients from the global ones.
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


@contextmanager
def limited_threads(number: int) -> Iterator[None]:
    """Compute with so many threads of the CPU.

    The order of sums depends on it, and an attack amplifies last digits.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def resolve_device(name: str) -> torch.device:
    """Return the torch device of a setting; "auto" is the first CUDA device or the CPU.

    Raises
    ------
    ValueError
        In one line, if there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise ValueError(f"device = {name!r}: must be auto, cpu, cuda or cuda:N")
    if kind == "cuda" and not int(number or 0) < torch.cuda.device_count():
        raise ValueError(
            f"device = {name!r}: there are {torch.cuda.device_count()} CUDA devices here"
        )
    return torch.device(name)
