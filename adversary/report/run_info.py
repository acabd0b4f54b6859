"""What run.json holds, read without trusting its shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FEWEST_FOR_AUC = 30
"""Images from which on an AUC is told: of fewer, chance alone moves it by a tenth and more."""


def mapping(value: object) -> Mapping[str, Any]:
    """Return a table of run.json; an empty one where it is none."""
    return value if isinstance(value, Mapping) else {}


def positive(value: object) -> int | None:
    """Return a count of run.json; None where it is none, or 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def trained_images(info: Mapping[str, Any]) -> int | None:
    """Return how many X-rays the clients hold together; None where run.json does not tell.

    Not those of the data set: where the sizes of hospitals are set, some are with nobody.
    """
    held = [positive(count) for count in mapping(info.get("clients")).values()]
    told = sum(filter(None, held))
    return told or positive(mapping(info.get("data")).get("private"))


def flattened(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the entries of nested tables by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def in_words(value: object) -> str:
    """Return a value of run.json as a table shows it."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "–" if value is None or value == "" else str(value)


def evaluated_images(info: Mapping[str, Any]) -> int | None:
    """Return how many images the model was evaluated on; None where run.json does not tell."""
    data = mapping(info.get("data"))
    count = data.get(str(data.get("evaluated_on") or ""))
    return count if isinstance(count, int) and not isinstance(count, bool) else None
