"""Values as text, and text as values of a type."""

from __future__ import annotations

from contextlib import suppress

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


def to_text(value: Value) -> str:
    """Return the text that :func:`from_text` reads as ``value``, as short as it can be."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)
