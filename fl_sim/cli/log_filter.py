"""What a person wants to read of Flower's log: the run's own progress, warnings and failures."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from fl_sim.progress import parse_report

ANSI = re.compile(r"\x1b\[[0-9;]*m")
LEVEL = re.compile(r"^(?:\([^)]*pid=[^)]*\)\s*)?(?P<level>WARNING|ERROR)\s*:\s+(?P<text>.*)$")
CLIENT_RAISED = re.compile(r"^Exception ClientAppException occurred\. Message: (?P<text>.*)$")
CLIENT_DIED = re.compile(r"^ray\.exceptions\.(?P<text>\w*(?:Died|Crashed|OutOfMemory)Error):")

# True of every run, or told better elsewhere: the exception itself follows.
NOISE = (
    "Since flwr 1.32",
    "Manually terminating ClientAppActor",
    "An exception was raised when processing a message",
    "ray::",
    "Traceback",
    "Simulation raised an exception",
    "Exit Code:",
    "The actor died unexpectedly",
)


@dataclass(frozen=True)
class LogLine:
    """One line for the person who waits."""

    kind: Literal["progress", "warning"]
    text: str


class LogFilter:
    """Reads Flower's stream line by line and passes on what matters, each failure once."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def __call__(self, line: str) -> LogLine | None:
        """Return what to tell of ``line``; None for what is only worth a place in the log."""
        plain = ANSI.sub("", line).rstrip()
        if (progress := parse_report(plain)) is not None:
            return LogLine("progress", progress)
        text = _warning(plain)
        if text is None or text in self._told:
            return None
        self._told.add(text)
        return LogLine("warning", text)


def _warning(plain: str) -> str | None:
    if raised := CLIENT_RAISED.match(plain):
        return f"a client failed: {raised['text']}"
    if died := CLIENT_DIED.match(plain):
        return f"a client's process died ({died['text']})"
    levelled = LEVEL.match(plain)
    if levelled is None or not levelled["text"] or levelled["text"].startswith(NOISE):
        return None
    return levelled["text"]
