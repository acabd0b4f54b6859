"""How far the attacks are, and how long the rest will take."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from statistics import fmean

from adversary.common.results import AttackResult
from adversary.identification.identifier import IdentificationResult

Work = tuple[str, str]
"""Whose update, and the attack on it: what takes about as long whenever it is done."""


class TimeLeft:
    """Counts pieces of work against those expected, and says how long the rest will take.

    A piece is expected to take as long as those of its kind have; where none is done, as those of
    the same attack; else as all. What goes on beside it, and what is done at once, is in the ratio
    of the time since the start to that of all pieces done.

    Attributes
    ----------
    done : int
        Pieces that are finished.
    """

    def __init__(self) -> None:
        self.done = 0
        self._waiting: Counter[Work] = Counter()
        self._later: Counter[Work] | None = Counter()
        self._seconds: dict[Work, list[float]] = {}
        self._began: float | None = None

    @property
    def total(self) -> int | None:
        """Pieces expected in all; None where it is not known how many will come later."""
        if self._later is None:
            return None
        return self.done + self._waiting.total() + self._later.total()

    def begin(self) -> None:
        """Start the clock, once."""
        if self._began is None:
            self._began = time.monotonic()

    def expect(self, work: Iterable[Work], later: Iterable[Work] | None = ()) -> None:
        """Add pieces that wait from now on, and say anew which come later; None is not known."""
        self._waiting.update(work)
        self._later = None if later is None else Counter(later)

    def drop(self, client: str, attacks: Iterable[str]) -> None:
        """Forget pieces that will not be done."""
        self._waiting -= Counter((client, attack) for attack in attacks)

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
        return " · ".join(
            filter(None, (line, self.finish(client, outcome.attack, outcome.seconds)))
        )

    def finish(self, client: str, attack: str, seconds: float) -> str:
        """Count a piece as done and return what is left, as :meth:`left` does."""
        self.done += 1
        self._waiting -= Counter([(client, attack)])
        self._seconds.setdefault((client, attack), []).append(seconds)
        return self.left()

    def left(self) -> str:
        """Return how long the rest will take, ``1m05s left``, or nothing where it is not known."""
        if self._later is None or self._began is None or not self.done:
            return ""
        rest = self._waiting + self._later
        spent = sum(map(sum, self._seconds.values()))
        if not rest:
            return ""
        share = (
            sum(number * self._guess(work) for work, number in rest.items()) / spent
            if spent > 0
            else rest.total() / self.done
        )
        return f"{_duration(share * (time.monotonic() - self._began))} left"

    def _guess(self, work: Work) -> float:
        """Return how many seconds a piece may take."""
        alike = [every for (_, attack), every in self._seconds.items() if attack == work[1]]
        known = [self._seconds[work]] if work in self._seconds else alike
        return fmean(one for every in known or self._seconds.values() for one in every)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
