from __future__ import annotations

import time

import pytest

from adversary.attacks.standard.watchdog import OverdueError, within


def test_what_is_in_time_is_returned_and_raised():
    assert within(5.0, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        within(5.0, lambda: 1 // 0)


def test_what_never_ends_is_stopped():
    ended = []

    def endless():
        try:
            while True:
                time.sleep(0.005)
        finally:
            ended.append(True)

    began = time.monotonic()
    with pytest.raises(OverdueError, match=r"did not end within 0.1 s"):
        within(0.1, endless)
    assert time.monotonic() - began < 5
    assert ended == [True]
