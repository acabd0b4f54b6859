"""A time limit for code from outside, which may not look at any."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import TypeVar

from adversary.common.errors import UserError

T = TypeVar("T")

GRACE = 2.0
"""Seconds that code which is told to stop has for it; then it is left behind."""


class OverdueError(UserError, RuntimeError):
    """Code that did not end in time; one line."""


class _Stopped(BaseException):
    """Is raised in the thread of code that is to stop."""


def within(seconds: float, function: Callable[[], T]) -> T:
    """Return what a function returns, if it does so in time.

    It runs in a thread of its own. One that is overdue gets an exception at its next line of
    Python; if it does not end by that either, it goes on in the background, as a thread cannot be
    ended from outside, and its result is lost.

    Parameters
    ----------
    seconds : float
        Wall time, > 0.
    function : callable
        Without arguments.

    Raises
    ------
    OverdueError
        If it does not end in time.
    Exception
        Whatever it raises.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:  # to be raised in the thread that waits
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        ident = ctypes.c_ulong(thread.ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(_Stopped))
        thread.join(GRACE)
        raise OverdueError(f"did not end within {seconds:g} s, and was stopped")
    if errors:
        raise errors[0]
    return results[0]
