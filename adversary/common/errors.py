"""Errors in one line."""

from __future__ import annotations

from adversary.common.device_memory import out_of_memory


def one_line_error(error: BaseException) -> str:
    """Return what went wrong on one line, with the kind of error where it is not obvious."""
    text = " ".join(str(error).split())
    if out_of_memory(error):
        return f"out of memory: {text or type(error).__name__}"
    expected = type(error).__module__.startswith("adversary.")
    return text if expected and text else f"{type(error).__name__}: {text}".rstrip(": ")
