"""Between the server and its adversary: updates go in, attacked ones come out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from adversary.attacks.adversary import Adversary
from adversary.common.errors import one_line_error
from adversary.observation.observation import Observation, UpdateKey
from adversary.observation.threat_model import ThreatModel
from adversary.scoring.identification_scores import ScoredIdentification
from adversary.scoring.scorer import Result, Scored, ScoredResult

Threat = Callable[[Observation], ThreatModel]
Watch = Callable[[Observation, str, float], None]


def no_oracles(observation: Observation) -> ThreatModel:
    """Return the threat model of a server that knows what it observes and no more."""
    return ThreatModel()


@dataclass(frozen=True)
class Attacked:
    """One attack on one update that is done.

    Parameters
    ----------
    update : Observation or UpdateKey
        Whose update it is.
    result : AttackResult, IdentificationResult, or either beside the truth
        What came of the attack; scored where the truth was at hand.
    """

    update: Observation | UpdateKey
    result: Result | Scored

    @property
    def round(self) -> int:
        """Of the update."""
        return self.update.round

    @property
    def client(self) -> str:
        """Whose it is."""
        return self.update.client

    @property
    def outcome(self) -> Result:
        """What the attack gave."""
        scored = isinstance(self.result, ScoredResult | ScoredIdentification)
        return self.result.outcome if scored else self.result  # type: ignore[union-attr, return-value]


@dataclass(frozen=True)
class Unattacked:
    """An update that could not be attacked at all, and why, in one line."""

    round: int
    client: str
    reason: str


class AttackQueue(ABC):
    """Attacks updates, now or beside the training; made for one run, used by one thread."""

    beside: ClassVar[bool] = False
    """Whether it attacks beside the training: results are then asked for while clients train
    (:class:`~strategies.grids.polling.PollingGrid`) and at the end, never while a round ends."""

    @abstractmethod
    def submit(self, observation: Observation) -> None:
        """Take an update to attack."""

    @abstractmethod
    def results(self, timeout: float = 0.0) -> Iterator[Attacked | Unattacked]:
        """Yield newly finished results, waiting at most ``timeout`` seconds."""

    @property
    @abstractmethod
    def pending(self) -> int:
        """How many updates were taken and are not done."""

    @abstractmethod
    def flush(self) -> None:
        """Return when updates that are kept at all would survive a kill."""

    @property
    def full(self) -> bool:
        """Whether no more should be put before some are done."""
        return False


class InlineQueue(AttackQueue):
    """Run attacks in this process and thread, when results are requested.

    Parameters
    ----------
    adversary : Adversary
        Runs the attacks.
    threat : callable
        What the attacker is granted beyond an observation.
    watch : callable
        Told the update, the attack, and the share of it that is done.
    """

    def __init__(self, adversary: Adversary, threat: Threat, watch: Watch) -> None:
        self.adversary = adversary
        self.threat = threat
        self.watch = watch
        self._waiting: deque[Observation] = deque()

    def submit(self, observation: Observation) -> None:
        """Take an update to attack."""
        self._waiting.append(observation)

    def results(self, timeout: float = 0.0) -> Iterator[Attacked | Unattacked]:
        """Attack all that was put, and yield each attack when it is done."""
        while self._waiting:
            yield from self._examine(self._waiting.popleft())

    @property
    def pending(self) -> int:
        """How many updates were taken and are not done."""
        return len(self._waiting)

    def flush(self) -> None:
        """Return at once: updates wait in memory alone."""

    def _examine(self, observation: Observation) -> Iterator[Attacked | Unattacked]:
        def progress(attack: str, share: float) -> None:
            self.watch(observation, attack, share)

        try:
            threat = self.threat(observation)
            for result in self.adversary.run(observation, threat, progress=progress):
                yield Attacked(observation, result)
        except Exception as error:
            yield Unattacked(observation.round, observation.client, one_line_error(error))
