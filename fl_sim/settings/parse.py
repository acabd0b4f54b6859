"""From a flat run config to settings, and back."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast, get_type_hints

from fl_sim.settings.rules import Rule, SettingsError, Value, split_list
from fl_sim.settings.schema import SECTIONS, Settings


def flatten_toml(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the entries of nested tables, as of a TOML file, by dotted key."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from flatten_toml(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@dataclass(frozen=True)
class DeclaredSetting:
    """A setting as declared: its key in the run config, its type, default and rule."""

    key: str
    section: str
    field: str
    kind: type
    default: Value
    rule: Rule


def declared_settings() -> Iterator[DeclaredSetting]:
    """Yield every setting, in the order of the table of settings."""
    for section, cls in {"": Settings, **SECTIONS}.items():
        kinds = get_type_hints(cls)
        for f in dataclasses.fields(cls):
            if "rule" in f.metadata:
                name = f.name.replace("_", "-")
                key = f"{section}.{name}" if section else name
                rule = f.metadata["rule"]
                default = cast(Value, f.default)
                yield DeclaredSetting(key, section, f.name, kinds[f.name], default, rule)


def defaults() -> dict[str, Value]:
    """Return the default run config, flat, as Flower wants it."""
    return {s.key: s.default for s in declared_settings()}


def _convert(value: Value, kind: type) -> Value | None:
    """Return ``value`` as ``kind`` where nothing is lost, else None."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value if type(value) is kind else None


def parse(config: Mapping[str, Value]) -> Settings:
    """Turn a flat run config into :class:`Settings`; what is not given has its default.

    Raises
    ------
    SettingsError
        With one line for every unknown key, wrong type and value out of range.
    """
    known = {s.key: s for s in declared_settings()}
    errors: list[str] = []
    values: dict[str, dict[str, Value]] = {"": {}, **{section: {} for section in SECTIONS}}
    for key, value in config.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]}?" if close else ""
            errors.append(f"{key}: unknown setting{hint}")
            continue
        spec = known[key]
        converted = _convert(value, spec.kind)
        if converted is None or not spec.rule.accepts(converted):
            hint = ""
            if spec.rule.choices and isinstance(value, str):
                close = difflib.get_close_matches(value, spec.rule.choices(), n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
            allowed = spec.rule.allowed(spec.kind)
            errors.append(f"{key} = {value!r}: must be {allowed}{hint}")
        else:
            values[spec.section][spec.field] = converted
    if errors:
        raise SettingsError("\n".join(errors))
    sections = {name: cls(**values[name]) for name, cls in SECTIONS.items()}
    return Settings(**values[""], **sections)  # type: ignore[arg-type]


def flatten(settings: Settings) -> dict[str, Value]:
    """Return ``settings`` as a flat run config; the inverse of :func:`parse`."""
    flat: dict[str, Value] = {}
    for spec in declared_settings():
        owner = getattr(settings, spec.section) if spec.section else settings
        flat[spec.key] = getattr(owner, spec.field)
    return flat


def parse_options(text: str, setting: str) -> dict[str, str]:
    """Split ``"a=1, b=x"`` into ``{"a": "1", "b": "x"}``.

    Raises
    ------
    SettingsError
        Naming ``setting``, if a part is not KEY=VALUE.
    """
    options: dict[str, str] = {}
    for part in split_list(text):
        key, equals, value = part.partition("=")
        if not (key.strip() and equals and value.strip()):
            raise SettingsError(f"{setting} = {text!r}: {part!r} is not KEY=VALUE")
        options[key.strip()] = value.strip()
    return options
