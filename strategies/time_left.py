"""How far the attacks are, and how long the rest will take."""

from __future__ import annotations

import time

from adversary.common.results import AttackResult
from adversary.identification.identifier import IdentificationResult


class TimeLeft:
    """Counts attacks against an expected total.

    Attributes
    ----------
    done : int
        Attacks that are finished.
    total : int or None
        Attacks expected over the whole run; None where the number of rounds is not known.
    """

    def __init__(self) -> None:
        self.done = 0
        self.total: int | None = None
        self._began: float | None = None

    def begin(self) -> None:
        """Start the clock, once."""
        if self._began is None:
            self._began = time.monotonic()

    def expect(self, more: int | None) -> None:
        """Set how many attacks are still to come."""
        self.total = None if more is None else self.done + more

    def position(self) -> str:
        """Return which attack is being worked on, ``5/12``, or ``5`` where no total is known."""
        current = self.done + 1
        return f"{current}" if self.total is None else f"{current}/{max(current, self.total)}"

    def line(self, round: int, client: str, attack: str, *said: str) -> str:
        """Return a line about the attack that is worked on: its position, whose it is, and more."""
        parts = f"attack {self.position()}", f"round {round}", client, attack, *said
        return " · ".join(filter(None, parts))

    def finished(
        self,
        round: int,
        client: str,
        outcome: AttackResult | IdentificationResult,
        verdict: str | None,
    ) -> str:
        """Count one attack as done and return a line about it, with what is left of the run."""
        failed = outcome.failure is not None
        result = f"failed: {outcome.failure}" if failed else verdict or "done"
        line = self.line(round, client, outcome.attack, result)
        return " · ".join(filter(None, (line, self.finish())))

    def finish(self) -> str:
        """Count one attack as done and return what is left of the run, as :meth:`left` does."""
        self.done += 1
        return self.left()

    def left(self) -> str:
        """Return how long the rest will take, ``1m05s left``, or nothing where it is not known.

        The estimate takes the time since the start, training included, as evenly spread over
        the attacks.
        """
        if self.total is None or self._began is None or not 0 < self.done < self.total:
            return ""
        each = (time.monotonic() - self._began) / self.done
        return f"{_duration(each * (self.total - self.done))} left"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
