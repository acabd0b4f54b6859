"""The attacks, by name: one file each, or a folder for one with machinery of its own.

``adversary`` runs them on an observation and never raises; ``base`` is the interface,
``gradient_matching`` the engine of those that search for images with a near update. Imports any
room but those that see the truth (``scoring``, ``bounds``) or the disk (``storage``, ``report``);
and of another attack's folder only what its ``__init__`` names.

To add one: a file with a class of :class:`Attack`, a line in ``_BUILT_IN``, a case in
``tests/adversary/attacks/test_all.py``; or a plug-in, see docs/howto/attack.md.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any, get_type_hints

from adversary.attacks.base import Attack, AttackError, Run
from adversary.attacks.batch_statistics import BatchStatistics
from adversary.attacks.dlg import DLG
from adversary.attacks.encgrad import EncGradInversion
from adversary.attacks.encoder import Encoder
from adversary.attacks.gauss_newton import GaussNewton
from adversary.attacks.igi import IGI
from adversary.attacks.ing import ING
from adversary.attacks.initial_images import INITIAL_IMAGES
from adversary.attacks.most_probable import MostProbable
from adversary.attacks.options import AttackOptionError, option
from adversary.attacks.recursive import Recursive
from adversary.attacks.standard import Standard
from adversary.attacks.stg import STG
from adversary.common.convert import KINDS, OptionError, Value, as_option
from adversary.common.hints import did_you_mean
from adversary.common.plugins import Registry, derived_from
from adversary.common.results import Solution


def _plugin_error(name: str, cls: type[Attack]) -> str | None:
    """Return what keeps a class from outside from being an attack of that name."""
    own = getattr(cls, "name", None)
    if own != name:  # results are filed under the class's own
        return f"{cls.__name__}.name is {own!r}; must be {name!r}"
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    return f"{cls.__name__} lacks the method {missing[0]}" if missing else None


_BUILT_IN = (
    Standard,
    DLG,
    IGI,
    ING,
    STG,
    EncGradInversion,
    MostProbable,
    GaussNewton,
    BatchStatistics,
    Recursive,
    Encoder,
)

ATTACKS: Registry[type[Attack]] = Registry(
    {cls.name: cls for cls in _BUILT_IN},
    group="adversary.attacks",
    fault=derived_from(Attack, _plugin_error),
)

__all__ = [
    "ATTACKS",
    "DLG",
    "IGI",
    "ING",
    "INITIAL_IMAGES",
    "STG",
    "Attack",
    "AttackError",
    "AttackOptionError",
    "BatchStatistics",
    "EncGradInversion",
    "Encoder",
    "GaussNewton",
    "MostProbable",
    "Recursive",
    "Run",
    "Solution",
    "Standard",
    "create",
    "option",
    "options_of",
    "typed_option",
]


def options_of(cls: type[Attack]) -> dict[str, tuple[type, Value]]:
    """Return the parameters of an attack that text can set, with their types and defaults."""
    return {name: found for name, found in _parameters(cls).items() if found[0] in KINDS}


def _parameters(cls: type[Attack]) -> dict[str, tuple[Any, Any]]:
    """Return all keyword parameters of a class and its bases, with their types and defaults."""
    found: dict[str, tuple[Any, Any]] = {}
    for owner in reversed(cls.__mro__):
        if "__init__" not in vars(owner) or owner is object:
            continue
        if "__dataclass_fields__" in vars(owner):
            hints = get_type_hints(owner)
            for field in dataclasses.fields(owner):
                found[field.name] = hints[field.name], field.default
            continue
        constructor = vars(owner)["__init__"]
        hints = get_type_hints(constructor)
        for name, parameter in inspect.signature(constructor).parameters.items():
            if parameter.kind is parameter.KEYWORD_ONLY:
                found[name] = hints[name], parameter.default
    return found


def typed_option(name: str, option: str, value: object) -> Value:
    """Return a parameter of the attack ``name`` with the type that it has; it may be text.

    Raises
    ------
    AttackOptionError
        One line, if there is no such option, or the value does not fit.
    """
    kinds = {option: kind for option, (kind, _) in options_of(ATTACKS[name]).items()}
    try:
        return as_option(option, value, kinds, name)
    except OptionError as error:
        raise AttackOptionError(f"{name}.{error}") from error


def create(name: str, options: Mapping[str, Value] | None = None, **common: Any) -> Attack:
    """Make an attack, e.g. ``create("ing", {"tv": 1e-3}, restarts=2)``; numbers may be text.

    Parameters
    ----------
    name : str
        One of :data:`ATTACKS`.
    options : mapping, optional
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
            + did_you_mean(name, ATTACKS)
        )
    cls = ATTACKS[name]
    parameters = _parameters(cls)
    values = {name: value for name, value in common.items() if name in parameters}
    values |= {key: typed_option(name, key, value) for key, value in (options or {}).items()}
    return cls(**values)
