"""Pages so far take a small share of the time, and none where all is over soon."""

import pytest

from adversary.report import pace
from adversary.report.pace import Pace


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is moved."""
    now = [100.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    return now


def test_what_is_over_soon_is_not_written(clock):
    written = []
    so_far = Pace()
    for _ in range(4):
        clock[0] += pace.FIRST_SECONDS / 5
        so_far(lambda: written.append(clock[0]))
    assert written == []


@pytest.mark.parametrize("seconds", [0.5, 3.0])
def test_writing_takes_a_small_share_of_the_time(clock, seconds):
    began, spent = clock[0], []

    def write():
        clock[0] += seconds
        spent.append(seconds)

    so_far = Pace()
    while clock[0] < began + 1000 * seconds:
        clock[0] += seconds / 10
        so_far(write)
    share = sum(spent) / (clock[0] - began)
    assert 0.9 * pace.SHARE < share <= pace.SHARE
