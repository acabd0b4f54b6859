"""Every setting as ``schema`` declares it, by its key in the run config."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast, get_type_hints

from adversary.common.convert import Value
from fl_sim.settings.options import Options
from fl_sim.settings.rules import Rule
from fl_sim.settings.schema import SECTIONS, Settings


@dataclass(frozen=True)
class DeclaredSetting:
    """A setting as declared: its key in the run config, its type, default and rule."""

    key: str
    section: str
    field: str
    kind: type
    default: Value | Options
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
                default = cast("Value | Options", f.default)
                yield DeclaredSetting(key, section, f.name, kinds[f.name], default, rule)


def defaults() -> dict[str, Value]:
    """Return the default run config, flat, as Flower wants it."""
    return {s.key: as_config_value(s.default) for s in declared_settings()}


def as_config_value(value: Value | Options) -> Value:
    """Return a setting's value as Flower's run config holds it: parameters as text."""
    return str(value) if isinstance(value, Options) else value
