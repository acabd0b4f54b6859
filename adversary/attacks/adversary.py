"""The honest-but-curious party: every attack it knows, on every update it is shown."""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from adversary.attacks.base import Attack
from adversary.common.device_memory import out_of_memory
from adversary.common.results import Reconstruction
from adversary.common.seeding import derive_seed
from adversary.observation.observation import Observation
from adversary.observation.threat_model import ThreatModel
from adversary.optim.loop import Limits, Progress
from adversary.priors.gaussian import Prior
from adversary.problem.problem import pose


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one attack on one update: a reconstruction, or why there is none.

    ``oracles`` says what the attacker was told beyond what a server has.
    """

    attack: str
    seconds: float
    reconstruction: Reconstruction | None = None
    failure: str | None = None
    oracles: tuple[str, ...] = ()


class Adversary:
    """Runs attacks on observations and never raises, whatever an attack does.

    It works on copies: neither the model passed in nor any global random state changes, so a
    federation trains the same with it and without it.

    Parameters
    ----------
    model : nn.Module
        The architecture that the server trains; its weights are replaced by those observed.
        Parameters that do not require a gradient are taken to be frozen.
    image_shape : tuple of int
        (C, H, W) of a client's image.
    attacks : sequence of Attack
        Run in this order.
    prior : Prior, optional
        Public X-rays.
    seed : int
        Every attack's randomness derives from (seed, attack, round, client).
    limits : Limits
        Of each attack.
    device : str
        "auto" (the first CUDA device, else the CPU), "cpu", "cuda" or "cuda:N".
    threads : int
        Of the CPU that an attack computes with, >= 1. More than one pays for large images alone:
        the operations of small ones are done before other threads are awake.

    Raises
    ------
    ValueError
        If the device does not exist here or there is no attack.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        image_shape: tuple[int, int, int],
        attacks: Sequence[Attack],
        prior: Prior | None = None,
        seed: int = 0,
        limits: Limits = Limits(),  # noqa: B008 (frozen)
        device: str = "auto",
        threads: int = 1,
    ) -> None:
        if not attacks:
            raise ValueError("adversary.attack: at least one attack is needed")
        self.model = model
        self.image_shape = image_shape
        self.attacks = tuple(attacks)
        self.prior = prior
        self.seed = seed
        self.limits = limits
        self.device = resolve_device(device)
        self.threads = threads

    def examine(
        self,
        observation: Observation,
        threat: ThreatModel = ThreatModel(),  # noqa: B008 (frozen)
        *,
        only: Collection[str] | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Outcome]:
        """Yield one :class:`Outcome` an attack as it is done; of those named in ``only``."""
        for attack in self.attacks:
            if only is not None and attack.name not in only:
                continue
            started = time.monotonic()
            seed = derive_seed(
                self.seed, "attack", attack.name, observation.round, observation.client
            )
            try:
                with random_state_kept(), threads_set(self.threads):
                    problem = pose(
                        observation,
                        threat,
                        self.model,
                        image_shape=self.image_shape,
                        prior=self.prior,
                        device=self.device,
                    )
                    found = attack.run(problem, seed=seed, limits=self.limits, progress=progress)
            except Exception as error:  # whatever it is, training must go on
                yield Outcome(
                    attack=attack.name,
                    seconds=time.monotonic() - started,
                    failure=in_one_line(error),
                )
            else:
                yield Outcome(
                    attack=attack.name,
                    seconds=found.seconds,
                    reconstruction=found,
                    oracles=threat.oracles(),
                )


@contextmanager
def random_state_kept() -> Iterator[None]:
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
def threads_set(number: int) -> Iterator[None]:
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


def in_one_line(error: BaseException) -> str:
    """Return what went wrong on one line, with the kind of error where it is not obvious."""
    text = " ".join(str(error).split())
    if out_of_memory(error):
        return f"out of memory: {text or type(error).__name__}"
    expected = type(error).__module__.startswith("adversary.")
    return text if expected and text else f"{type(error).__name__}: {text}".rstrip(": ")
