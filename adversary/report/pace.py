"""When to write pages of what is not over yet."""

from __future__ import annotations

import time
from collections.abc import Callable

FIRST_SECONDS = 5.0
"""Before which nothing is written: what is over sooner has its page at the end alone."""

SHARE = 0.05
"""Of the time that goes at most into pages so far."""


class Pace:
    """Writes pages so far, now and then; begins when it is made."""

    def __init__(self) -> None:
        self._next = time.monotonic() + FIRST_SECONDS

    def __call__(self, write: Callable[[], object]) -> None:
        """Write, if it is not too soon or too often."""
        began = time.monotonic()
        if began < self._next:
            return
        write()
        ended = time.monotonic()
        self._next = ended + (ended - began) / SHARE
