from __future__ import annotations

import pytest

from strategies import time_left
from strategies.time_left import TimeLeft


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time_left.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("each", "left"),
    [(0.2, "1s left"), (5, "35s left"), (10, "1m10s left"), (3600, "7h00m left")],
)
def test_time_left_is_the_mean_time_of_those_done(each, left, clock):
    count = TimeLeft()
    count.begin()
    count.expect(8)
    clock[0] += each
    assert count.position() == "1/8"
    assert count.finish() == left
    assert count.position() == "2/8"


def test_the_last_attack_leaves_nothing(clock):
    count = TimeLeft()
    count.begin()
    count.expect(1)
    clock[0] += 3
    assert count.finish() == ""


def test_without_a_total_only_the_number_is_known(clock):
    count = TimeLeft()
    count.begin()
    count.expect(None)
    assert count.position() == "1"
    assert count.finish() == ""
    assert count.position() == "2"


def test_the_clock_starts_once(clock):
    count = TimeLeft()
    count.begin()
    clock[0] += 10
    count.begin()
    count.expect(2)
    assert count.finish() == "10s left"
