"""Values as text, and text as values of a type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress

from adversary.common.errors import UserError
from adversary.common.hints import did_you_mean

Value = bool | int | float | str

KINDS: dict[type, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "text",
}
"""The types of a value that text can give, in words."""


def from_text(text: str, kind: type) -> Value:
    """Return what ``text`` says, of type ``kind`` where it can be; else the text as it is."""
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if kind is str:
        quoted = len(text) >= 2 and text[0] == text[-1] and text[0] in "'\""
        return text[1:-1] if quoted else text
    with suppress(ValueError):
        return int(text)
    with suppress(ValueError):
        return float(text)
    return text


def as_kind(value: object, kind: type) -> Value | None:
    """Return ``value`` as ``kind`` where nothing is lost, else None: an integer is a number."""
    if kind is float and type(value) is int:
        return float(value)
    return value if type(value) is kind else None  # type: ignore[return-value]


def convert(value: object, kind: type) -> Value | None:
    """Return ``value``, which may be text, as ``kind``; None where it is none."""
    return as_kind(from_text(value, kind) if isinstance(value, str) else value, kind)


class OptionError(UserError, ValueError):
    """An option is unknown, or its value of another type; one line without what it belongs to."""


def as_option(
    option: str, value: object, kinds: Mapping[str, type], owner: str, also: Iterable[str] = ()
) -> Value:
    """Return the value of an option with the type that it has; it may be text.

    Parameters
    ----------
    option : str
        Its name.
    value : object
        What was given.
    kinds : mapping of str to type
        The options that there are, each of a type of :data:`KINDS`.
    owner : str
        What has them.
    also : iterable of str
        Further names that may have been meant.

    Raises
    ------
    OptionError
        If there is no such option, or the value does not fit.
    """
    if option not in kinds:
        known = ", ".join(kinds) or "no options"
        hint = did_you_mean(option, [*kinds, *also])
        raise OptionError(f"{option}: unknown option; {owner} takes {known}{hint}")
    found = convert(value, kinds[option])
    if found is None:
        raise OptionError(f"{option} = {value!r}: must be {KINDS[kinds[option]]}")
    return found


def to_text(value: Value) -> str:
    """Return the text that :func:`from_text` reads as ``value``, as short as it can be."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)
