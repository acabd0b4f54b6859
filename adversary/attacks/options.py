"""Options of attacks, each declared once: its type and default, and which values it takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from adversary.common.errors import UserError

MISSING: Any = dataclasses.MISSING


class AttackOptionError(UserError, ValueError):
    """A parameter of an attack is wrong; the message names it, the value and what is allowed."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Which values an option takes.

    Parameters
    ----------
    above, minimum, maximum : float, optional
        Limits; the first is not allowed itself.
    choices : callable, optional
        Returns the words that are allowed.
    several : bool
        Whether several of the words may be joined by ``+``.
    """

    above: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    choices: Callable[[], Iterable[str]] | None = None
    several: bool = False

    def allows(self, value: Any) -> bool:
        """Return whether a value is one of those allowed; NaN never is."""
        if self.choices is not None:
            words = joined(value) if self.several else (value,)
            return set(words) <= set(self.choices())
        return (
            (self.above is None or value > self.above)
            and (self.minimum is None or value >= self.minimum)
            and (self.maximum is None or value <= self.maximum)
        )

    def __str__(self) -> str:
        if self.choices is not None:
            number = "one or more, joined by +, of" if self.several else "one of"
            return f"{number} {', '.join(self.choices())}"
        limits = (("> {:g}", self.above), (">= {:g}", self.minimum), ("<= {:g}", self.maximum))
        return " and ".join(text.format(limit) for text, limit in limits if limit is not None)


def joined(text: str) -> tuple[str, ...]:
    """Return the words that ``+`` joins."""
    return tuple(word.strip() for word in text.split("+"))


def option(default: Any = MISSING, **rule: Any) -> Any:
    """Declare an option as a field of an attack's dataclass, with its :class:`Rule`'s fields."""
    return dataclasses.field(default=default, metadata={"rule": Rule(**rule)})


def check_options(attack: Any) -> None:
    """Raise :class:`AttackOptionError` for the first field whose value its rule does not allow."""
    for field in dataclasses.fields(attack):
        rule, value = field.metadata.get("rule"), getattr(attack, field.name)
        if rule is not None and not rule.allows(value):
            raise AttackOptionError(f"{attack.name}.{field.name} = {value!r}: must be {rule}")
