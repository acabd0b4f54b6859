"""One attack's clock, limits, randomness and history."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from adversary.common.results import Frame, IterationRecord

Progress = Callable[[str, float], None]
"""Called with the attack's name and the share of its work that is done, 0 to 1."""


@dataclass(frozen=True)
class Limits:
    """What one attack may spend; None is no limit."""

    seconds: float | None = None
    evaluations: int | None = None


@dataclass
class Search:
    """One attack's clock, limits, randomness and history, over all its phases and restarts.

    ``precision`` and ``execution`` are how its evaluations are worked out, one of
    :data:`~adversary.optim.precision.PRECISIONS` and of
    :data:`~adversary.optim.backends.EXECUTIONS`; ``notes`` is what there is to say of it.
    """

    name: str
    seed: int
    limits: Limits = Limits()
    progress: Progress | None = None
    precision: str = "full"
    execution: str = "eager"
    started: float = field(default_factory=time.monotonic)
    evaluations: int = 0
    stopped: str = "iterations"
    history: list[IterationRecord] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Seconds since the attack began."""
        return time.monotonic() - self.started

    def exhausted(self) -> bool:
        """Return whether a limit is reached, and note which."""
        if self.limits.seconds is not None and self.seconds >= self.limits.seconds:
            self.stopped = "seconds"
            return True
        if self.limits.evaluations is not None and self.evaluations >= self.limits.evaluations:
            self.stopped = "evaluations"
            return True
        return False

    def report(self, share: float) -> None:
        """Tell whoever asked how far the attack is."""
        if self.progress is not None:
            self.progress(self.name, share)
