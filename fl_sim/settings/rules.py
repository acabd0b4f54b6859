"""Which values a setting takes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from adversary.common.convert import KINDS
from adversary.common.errors import UserError

MONITORS = ("auc", "loss")
"""Figures that can be monitored; of a loss less is better."""


class SettingsError(UserError, ValueError):
    """One or more settings are wrong; a line each."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a setting means and which values it takes (limits are inclusive)."""

    help: str
    choices: Callable[[], tuple[str, ...]] | None = None
    several: bool = False
    optional: bool = False
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    required: bool = False
    count_or_path: bool = False
    any_case: bool = False

    def allowed(self, kind: type) -> str:
        """Return the allowed values in words."""
        if self.choices:
            none = "empty, or " if self.optional else ""
            many = "one or more of " if self.several else "one of "
            return none + many + ", ".join(self.choices())
        if self.count_or_path:
            return "an integer >= 0, or a path"
        if self.required:
            return "text, not empty"
        limits = []
        if self.above is not None:
            limits.append(f"> {self.above}")
        if self.minimum is not None:
            limits.append(f">= {self.minimum}")
        if self.maximum is not None:
            limits.append(f"<= {self.maximum}")
        return " ".join([KINDS.get(kind, "text"), " and ".join(limits)]).strip()

    def accepts(self, value: object) -> bool:
        """Return whether a value of the right type is one of the allowed ones."""
        if self.choices and isinstance(value, str):
            parts = split_list(value) if self.several else [value]
            return bool(parts or self.optional) and all(part in self.choices() for part in parts)
        if isinstance(value, str) and self.count_or_path:
            return bool(value.strip()) and not is_number_below_zero(value)
        if isinstance(value, str):
            return bool(value.strip()) or not self.required
        if not isinstance(value, int | float):  # parameters, which the registries check
            return True
        return math.isfinite(value) and (
            (self.above is None or value > self.above)
            and (self.minimum is None or value >= self.minimum)
            and (self.maximum is None or value <= self.maximum)
        )


def is_number_below_zero(text: str) -> bool:
    """Return whether text is a negative whole number."""
    return text.startswith("-") and text[1:].isdecimal()


def split_list(text: str) -> list[str]:
    """Split a comma-separated setting into its parts."""
    return [part.strip() for part in text.split(",") if part.strip()]


def setting(default: object, help: str, **rule: Any) -> Any:
    """Declare one setting with its default, its meaning and its limits."""
    return dataclasses.field(default=default, metadata={"rule": Rule(help=help, **rule)})
