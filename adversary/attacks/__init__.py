"""The attacks, by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import Any, get_type_hints

from adversary.attacks.base import STARTS, Attack, AttackError, AttackOptionError
from adversary.attacks.dlg import DLG
from adversary.attacks.encgrad import EncGradInversion
from adversary.attacks.gauss_newton import GaussNewton
from adversary.attacks.igi import IGI
from adversary.attacks.ing import ING
from adversary.attacks.stg import STG

ATTACKS: dict[str, type[Attack]] = {
    cls.name: cls for cls in (DLG, IGI, ING, STG, EncGradInversion, GaussNewton)
}

__all__ = [
    "ATTACKS",
    "DLG",
    "IGI",
    "ING",
    "STARTS",
    "STG",
    "Attack",
    "AttackError",
    "AttackOptionError",
    "EncGradInversion",
    "GaussNewton",
    "create",
    "options_of",
]


def options_of(cls: type[Attack]) -> dict[str, type]:
    """Return the parameters of an attack that text can set, with their types."""
    found: dict[str, type] = {}
    for owner in reversed(cls.__mro__):
        if "__init__" not in vars(owner) or owner is object:
            continue
        constructor = vars(owner)["__init__"]
        hints = get_type_hints(constructor)
        for name, parameter in inspect.signature(constructor).parameters.items():
            if parameter.kind is parameter.KEYWORD_ONLY and hints[name] in (bool, int, float, str):
                found[name] = hints[name]
    return found


def create(name: str, options: Mapping[str, str] | None = None, **common: Any) -> Attack:
    """Make an attack from text options, e.g. ``create("ing", {"tv": "1e-3"}, restarts=2)``.

    Parameters
    ----------
    name : str
        One of :data:`ATTACKS`.
    options : mapping of str to str, optional
        Parameters of the attack's constructor; they win over ``common``.
    **common
        Values for any attack; those that this one does not take are left out.

    Raises
    ------
    AttackOptionError
        For an unknown name, an unknown option, or a value of the wrong type or range.
    """
    if name not in ATTACKS:
        raise AttackOptionError(
            f"adversary.attack = {name!r}: must be one of {', '.join(ATTACKS)}"
            + _hint(name, ATTACKS)
        )
    cls = ATTACKS[name]
    kinds = options_of(cls)
    values = {
        k: v for k, v in common.items() if k in kinds or (k == "start_image" and "start" in kinds)
    }
    for key, text in (options or {}).items():
        if key not in kinds:
            allowed = ", ".join(kinds)
            raise AttackOptionError(
                f"{name}.{key}: unknown option; {name} takes {allowed}{_hint(key, kinds)}"
            )
        values[key] = _read(f"{name}.{key}", text, kinds[key])
    return cls(**values)


def _hint(word: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _read(option: str, text: str, kind: type) -> Any:
    words = {"true": True, "false": False}
    try:
        return words[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        names = {bool: "true or false", int: "an integer", float: "a number"}
        raise AttackOptionError(f"{option} = {text!r}: must be {names[kind]}") from None
