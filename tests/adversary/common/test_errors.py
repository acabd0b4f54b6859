"""Errors for a person, in one line."""

from __future__ import annotations

from adversary.common.errors import one_line_error
from adversary.observation.observation import ObservationError


def test_one_of_ours_needs_no_name_of_its_class():
    assert one_line_error(ObservationError("no\n such  update")) == "no such update"
    assert one_line_error(ValueError("wrong")) == "ValueError: wrong"
    assert one_line_error(KeyError()) == "KeyError"
    assert one_line_error(MemoryError()).startswith("out of memory: ")
