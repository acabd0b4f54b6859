"""Text to values of a type, and back."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adversary.common.convert import KINDS, OptionError, as_kind, as_option, from_text, to_text

values = st.one_of(
    st.booleans(), st.integers(), st.floats(allow_nan=False), st.text("abc+-/._ ", max_size=9)
)


@given(values)
def test_text_is_read_as_what_was_written(value):
    back = as_kind(from_text(to_text(value), type(value)), type(value))
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (1, float, 1.0),
        (1.0, int, None),
        (True, int, None),
        (True, float, None),
        (1, bool, None),
        ("1", int, None),
        (2**60 + 1, int, 2**60 + 1),
        ([1], str, None),
    ],
)
def test_nothing_is_lost_when_a_value_changes_its_type(value, kind, expected):
    found = as_kind(value, kind)
    assert found == expected
    assert found is None or type(found) is kind


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("TRUE", bool, True),
        ("yes", bool, "yes"),
        ("few", int, "few"),
        ("1e3", float, 1000.0),
        ("'1'", str, "1"),
        ("inf", float, math.inf),
    ],
)
def test_text_that_says_no_value_stays_text(text, kind, expected):
    assert from_text(text, kind) == expected


def test_numbers_are_as_short_as_they_can_be():
    assert [to_text(value) for value in (1.0, 0.1, 1e-5, 30, True)] == [
        "1", "0.1", "1e-05", "30", "true"
    ]  # fmt: skip
    assert set(KINDS) == {bool, int, float, str}


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("tvv", 1, "tvv: unknown option; ing takes tv, restarts; did you mean tv?"),
        ("nam", 1, "nam: unknown option; ing takes tv, restarts; did you mean name?"),
        ("restarts", "1.5", "restarts = '1.5': must be an integer"),
    ],
)
def test_an_option_that_is_unknown_or_does_not_fit_is_one_line(option, value, message):
    with pytest.raises(OptionError, match=f"^{re.escape(message)}$"):
        as_option(option, value, {"tv": float, "restarts": int}, "ing", also=["name"])


def test_options_of_something_without_any():
    with pytest.raises(OptionError, match="^scale: unknown option; none takes no options$"):
        as_option("scale", 1, {}, "none")
