"""Flat configs one over the other, with parameters of strategies, defences and attacks by key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adversary.common.convert import to_text
from fl_sim.settings.declared import declared_settings
from fl_sim.settings.options import parse_options
from fl_sim.settings.rules import SettingsError, split_list

OWNERS = {"strategy": "name", "defence": "name", "adversary": "attack"}
"""The sections with parameters, and the setting of each that says whose they are."""

_FORMS = {
    "strategy": "an option of a strategy",
    "defence": "a parameter of a defence",
    "adversary": "ATTACK.OPTION",
}

_OF_ONE = frozenset(OWNERS) - {"adversary"}
"""The sections whose owner is one alone, so that its parameters stand in the section itself."""

DECLARED = frozenset(one.key for one in declared_settings())


def expand(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a flat config whose parameters are each a key of its own, and none are joined.

    Raises
    ------
    SettingsError
        A line for text that is not KEY=VALUE, and for a parameter that is given twice.
    """
    found, errors = dict(config), []
    for section in OWNERS:
        joined = f"{section}.options"
        if not isinstance(text := config.get(joined), str):
            continue
        del found[joined]
        try:
            parsed = parse_options(text, joined)
        except SettingsError as error:
            errors.append(str(error))
            continue
        for key, value in parsed.items():
            full = f"{section}.{key}"
            if not is_option(full):
                errors.append(f"{joined} = {text!r}: {key!r} is not {_FORMS[section]}")
                continue
            if full in config and to_text(config[full]) != value:
                errors.append(f"{full} = {config[full]!r}: {joined} has {value}; give it once")
            found.setdefault(full, value)
    if errors:
        raise SettingsError("\n".join(errors))
    return found


def overlay(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return flat configs as one, each over those before it, expanded.

    Parameters belong to a strategy, a defence or an attack: a layer that names another, or gives
    all parameters as one text, leaves those below it out.
    """
    found: dict[str, Any] = {}
    for layer in layers:
        found = {key: value for key, value in found.items() if not _is_replaced(key, found, layer)}
        found |= expand(layer)
    return found


def _is_replaced(key: str, below: Mapping[str, Any], layer: Mapping[str, Any]) -> bool:
    """Whether ``key``, of a layer below, is a parameter that ``layer`` leaves out."""
    section, _, rest = key.partition(".")
    if not is_option(key):
        return False
    if f"{section}.options" in layer:
        return True
    chosen = layer.get(f"{section}.{OWNERS[section]}")
    if chosen is None:
        return False
    if section in _OF_ONE:
        before = below.get(f"{section}.{OWNERS[section]}")
        return str(chosen).lower() != str(before).lower()
    return rest.partition(".")[0] not in split_list(str(chosen))


def is_option(key: str) -> bool:
    """Return whether a dotted key is the place of a parameter; settings there are others."""
    section, _, rest = key.partition(".")
    return section in OWNERS and key not in DECLARED and ("." in rest or section in _OF_ONE)
