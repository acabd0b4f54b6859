"""The honest-but-curious party: every attack it knows, on every update it is shown."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection, Iterator, Sequence

from torch import nn

from adversary.attacks.base import Attack
from adversary.common.errors import one_line_error
from adversary.common.results import AttackResult, Reconstruction
from adversary.common.seeding import derive_seed
from adversary.common.torch_state import limited_threads, preserved_rng_state, resolve_device
from adversary.identification import identifier as identification
from adversary.identification.identifier import IdentificationResult, Identifier
from adversary.observation.observation import Observation
from adversary.observation.threat_model import ThreatModel
from adversary.optim.search import Limits, Progress
from adversary.priors.public import Prior
from adversary.problem.problem import build_problem


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
    limits : Limits, optional
        Of each attack.
    device : str
        "auto" (the first CUDA device, else the CPU), "cpu", "cuda" or "cuda:N".
    threads : int
        Of the CPU that an attack computes with, >= 1. More than one pays for large images alone:
        the operations of small ones are done before other threads are awake.
    identifier : Identifier, optional
        Looks for candidates in each update, after the attacks.

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
        limits: Limits | None = None,
        device: str = "auto",
        threads: int = 1,
        identifier: Identifier | None = None,
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
        self.identifier = identifier

    @property
    def names(self) -> tuple[str, ...]:
        """What is done with each update, in this order: attacks, and identification."""
        also = () if self.identifier is None else (identification.NAME,)
        return (*(attack.name for attack in self.attacks), *also)

    def run_attacks(
        self,
        observation: Observation,
        threat: ThreatModel | None = None,
        *,
        only: Collection[str] | None = None,
        progress: Progress | None = None,
    ) -> Iterator[AttackResult]:
        """Yield one :class:`AttackResult` an attack as it is done; of those named in ``only``."""
        threat = threat or ThreatModel()
        for attack in self.attacks:
            if only is not None and attack.name not in only:
                continue
            started = time.monotonic()
            seed = derive_seed(
                self.seed, "attack", attack.name, observation.round, observation.client
            )
            try:
                with preserved_rng_state(), limited_threads(self.threads):
                    problem = build_problem(
                        observation,
                        threat,
                        self.model,
                        image_shape=self.image_shape,
                        prior=self.prior,
                        device=self.device,
                    )
                    found = attack.run(problem, seed=seed, limits=self.limits, progress=progress)
            except Exception as error:  # whatever it is, training must go on
                yield AttackResult(
                    attack=attack.name,
                    seconds=time.monotonic() - started,
                    failure=one_line_error(error),
                )
            else:
                yield AttackResult(
                    attack=attack.name,
                    seconds=found.seconds,
                    reconstruction=_with_what_is_said_of(observation, found),
                    oracles=threat.oracles(),
                )

    def run(
        self,
        observation: Observation,
        threat: ThreatModel | None = None,
        *,
        only: Collection[str] | None = None,
        progress: Progress | None = None,
    ) -> Iterator[AttackResult | IdentificationResult]:
        """Yield a result as each of :attr:`names` is done; of those in ``only``, where given."""
        threat = threat or ThreatModel()
        yield from self.run_attacks(observation, threat, only=only, progress=progress)
        if self.identifier is not None and (only is None or identification.NAME in only):
            with preserved_rng_state(), limited_threads(self.threads):
                found = self.identifier.run(observation, threat, progress=progress)
            yield found


def _with_what_is_said_of(observation: Observation, found: Reconstruction) -> Reconstruction:
    """Return a reconstruction with the notes and flags of the update itself."""
    return dataclasses.replace(
        found,
        notes=(*observation.notes, *found.notes),
        flags=tuple(dict.fromkeys((*observation.flags, *found.flags))),
    )
