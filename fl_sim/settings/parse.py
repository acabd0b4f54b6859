"""From a flat run config to settings, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adversary.common.convert import Value, as_kind, to_text
from adversary.common.errors import UserError
from adversary.common.hints import did_you_mean
from fl_sim.settings.declared import DeclaredSetting, as_config_value, declared_settings
from fl_sim.settings.layers import OWNERS, expand, is_option
from fl_sim.settings.options import Options
from fl_sim.settings.rules import SettingsError, split_list
from fl_sim.settings.schema import SECTIONS, Settings
from fl_sim.settings.synonyms import SYNONYMS
from strategies.registry import STRATEGY_NAMES, options_of
from strategies.registry import typed_option as strategy_option


def flatten_toml(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the entries of nested tables, as of a TOML file, by dotted key."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from flatten_toml(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def parse(config: Mapping[str, Any]) -> Settings:
    """Turn a flat run config into :class:`Settings`; what is not given has its default.

    Parameters of a strategy, a defence or an attack have a key each (``strategy.eta``,
    ``defence.scale``, ``adversary.ing.tv``), or stand in the section's ``options`` as text.

    Raises
    ------
    SettingsError
        With one line for every unknown key, wrong type and value out of range.
    """
    known = {s.key: s for s in declared_settings()}
    errors: list[str] = []
    values: dict[str, dict[str, Any]] = {"": {}, **{section: {} for section in SECTIONS}}
    given = expand(config)
    parameters = {key: value for key, value in given.items() if is_option(key)}
    for key, value in given.items():
        if key in parameters:
            continue
        if key not in known:
            errors.append(f"{key}: unknown setting{did_you_mean(key, known, SYNONYMS)}")
        else:
            spec = known[key]
            converted, wrong = _checked(spec, value)
            errors += wrong
            if not wrong:
                values[spec.section][spec.field] = converted
    for section, owner in OWNERS.items():
        if f"{section}.{owner}" in given and owner not in values[section]:
            continue  # parameters of what there is not
        found, wrong = _parameters(section, parameters, values[section])
        values[section]["options"] = found
        errors += wrong
    if errors:
        raise SettingsError("\n".join(errors))
    sections = {name: cls(**values[name]) for name, cls in SECTIONS.items()}
    return Settings(**values[""], **sections)


def flatten(settings: Settings) -> dict[str, Value]:
    """Return ``settings`` as a flat run config for Flower; the inverse of :func:`parse`."""
    flat: dict[str, Value] = {}
    for spec in declared_settings():
        owner = getattr(settings, spec.section) if spec.section else settings
        flat[spec.key] = as_config_value(getattr(owner, spec.field))
    return flat


def canonical(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's settings as this version writes them, where it can read them."""
    try:
        return dict(flatten(parse(config)))
    except SettingsError:
        return dict(config)


def _checked(spec: DeclaredSetting, value: object) -> tuple[Value | None, list[str]]:
    """Return the value of a setting, and what is wrong with it."""
    if spec.rule.count_or_path and type(value) is int:
        value = str(value)
    if spec.rule.any_case and isinstance(value, str):
        value = value.lower()
    converted = as_kind(value, spec.kind)
    if converted is not None and spec.rule.accepts(converted):
        return converted, []
    hint = ""
    if spec.rule.choices and isinstance(value, str):
        hint = did_you_mean(value, spec.rule.choices())
    return None, [f"{spec.key} = {value!r}: must be {spec.rule.allowed(spec.kind)}{hint}"]


def _parameters(
    section: str, given: Mapping[str, Any], values: Mapping[str, Any]
) -> tuple[Options, list[str]]:
    """Return the parameters in a section by name, and a line for each that does not fit."""
    typed = {"strategy": _of_strategy, "defence": _of_defence, "adversary": _of_attack}[section]
    owner = values.get(OWNERS[section], getattr(getattr(Settings(), section), OWNERS[section]))
    found: dict[str, Value] = {}
    errors = []
    for key, value in given.items():
        if not key.startswith(f"{section}."):
            continue
        try:
            name, converted = typed(owner, key, value)
            if "," in to_text(converted):  # which parts them in Flower's run config
                raise SettingsError(f"{key} = {value!r}: must hold no comma")
            found[name] = converted
        except UserError as error:
            errors.append(str(error))
    return Options(found), errors


def _of_strategy(strategy: str, key: str, value: object) -> tuple[str, Value]:
    name = key.partition(".")[2].replace("-", "_")
    known = options_of(strategy)
    if name not in known:
        own = [f"strategy.{option.replace('_', '-')}" for option in known]
        settings = [one.key for one in declared_settings()]
        others = ", ".join(other for other in STRATEGY_NAMES if name in options_of(other))
        hint = f"; it is of {others}" if others else did_you_mean(key, own + settings, SYNONYMS)
        raise SettingsError(
            f"{key}: unknown setting, and no option of {strategy}, which takes "
            f"{', '.join(known) or 'none'}{hint}"
        )
    return name, strategy_option(strategy, name, value)


def _of_defence(defence: str, key: str, value: object) -> tuple[str, Value]:
    from fl_sim.defences import typed_option as defence_option  # needs torch

    name = key.partition(".")[2].replace("-", "_")
    return name, defence_option(defence, name, value)


def _of_attack(chosen: str, key: str, value: object) -> tuple[str, Value]:
    from adversary.attacks import AttackOptionError  # needs torch
    from adversary.attacks import typed_option as attack_option

    attacks = split_list(chosen)
    _, attack, *rest = key.split(".")
    if attack not in attacks or len(rest) != 1:
        raise SettingsError(
            f"{key}: must be adversary.ATTACK.OPTION, with ATTACK one of adversary.attack, "
            f"{', '.join(attacks)}{did_you_mean(attack, attacks)}"
        )
    name = rest[0].replace("-", "_")
    try:
        return f"{attack}.{name}", attack_option(attack, name, value)
    except AttackOptionError as error:
        raise SettingsError(f"adversary.{error}") from error
