from __future__ import annotations

import pytest

from strategies import time_left
from strategies.time_left import TimeLeft


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time_left.time, "monotonic", lambda: now[0])
    return now


def counting(clients, attacks=("dlg",), later=()):
    count = TimeLeft()
    count.begin()
    work = [(client, attack) for client in clients for attack in attacks]
    count.expect(work, None if later is None else [*work] * len(later))
    return count


@pytest.mark.parametrize(
    ("each", "left"),
    [(0.2, "1s left"), (5, "35s left"), (10, "1m10s left"), (3600, "7h00m left")],
)
def test_of_one_kind_time_left_is_the_mean_time_of_those_done(each, left, clock):
    count = counting("abcdefgh")
    clock[0] += each
    assert count.position() == "1/8"
    assert count.finish("a", "dlg", each) == left
    assert count.position() == "2/8"


def test_pieces_that_took_no_time_count_alike(clock):
    count = counting("abcd")
    clock[0] += 2
    assert count.finish("a", "dlg", 0.0) == "6s left"


def test_what_is_to_come_takes_as_long_as_its_like_has(clock):
    seconds = {("a", "slow"): 100, ("a", "fast"): 1, ("b", "slow"): 300, ("b", "fast"): 3}
    count = counting("ab", ("slow", "fast"), later=(2, 3))
    for work, took in seconds.items():
        clock[0] += took
        told = count.finish(*work, took)
    assert told == "13m28s left"  # two more rounds of 404 s each
    clock[0] += 100
    assert count.finish("a", "slow", 100) == "13m28s left"  # not waiting: later ones are


def test_what_has_no_like_yet_takes_as_long_as_others_of_its_attack(clock):
    count = counting("abc", ("slow", "fast"))
    clock[0] += 100
    assert count.finish("a", "slow", 100) == "8m20s left"  # fast is not known yet
    clock[0] += 2
    assert count.finish("a", "fast", 2) == "3m24s left"  # twice 102 s


def test_what_is_done_at_once_is_in_the_clock(clock):
    count = counting("abcd")
    clock[0] += 10
    count.finish("a", "dlg", 20.0)  # two at once
    assert count.finish("b", "dlg", 20.0) == "10s left"


def test_the_last_piece_leaves_nothing(clock):
    count = counting("a")
    clock[0] += 3
    assert count.finish("a", "dlg", 3.0) == ""


def test_what_is_given_up_is_not_waited_for(clock):
    count = counting("ab")
    count.drop("b", ["dlg"])
    assert count.position() == "1/1"
    assert count.finish("a", "dlg", 1.0) == ""


def test_without_a_total_only_the_number_is_known(clock):
    count = counting("ab", later=None)
    assert count.position() == "1"
    assert count.finish("a", "dlg", 1.0) == ""
    assert count.position() == "2"


def test_the_clock_starts_once(clock):
    count = TimeLeft()
    count.begin()
    clock[0] += 10
    count.begin()
    count.expect([("a", "dlg"), ("b", "dlg")])
    assert count.finish("a", "dlg", 10.0) == "10s left"
