"""Errors that a person is meant to read, in one line."""

from __future__ import annotations


class UserError(Exception):
    """Something that whoever runs the program can put right; one line for each mistake.

    Every error of the project derives from it, beside the built-in class that says of what kind it
    is: what is no such error is a fault of the program and keeps its traceback.
    """


class UserNotice(UserWarning):
    """A warning for whoever runs the program, in one line."""


def one_line_error(error: BaseException) -> str:
    """Return what went wrong on one line, with the kind of error where it is not obvious."""
    from adversary.common.device_memory import out_of_memory  # needs torch

    text = " ".join(str(error).split())
    if out_of_memory(error):
        return f"out of memory: {text or type(error).__name__}"
    expected = isinstance(error, UserError)
    return text if expected and text else f"{type(error).__name__}: {text}".rstrip(": ")
