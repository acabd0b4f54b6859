"""The lines by which a person follows a run, whichever engine runs it.

The ServerApp's output reaches ``fl-sim run`` in one stream with all that Flower and Ray log; the
prefix tells the run's own lines from theirs.
"""

from __future__ import annotations

PREFIX = "fl-sim: "


def report_progress(text: str) -> None:
    """Print one line of progress."""
    print(f"{PREFIX}{text}", flush=True)


def parse_report(line: str) -> str | None:
    """Return what :func:`report_progress` was given, if ``line`` is one of its lines, else None."""
    _, found, text = line.partition(PREFIX)
    return text if found else None
