"""What a setting can name, and the settings themselves, as tables to read."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from rich.table import Table

from adversary.attacks import ATTACKS
from adversary.attacks import options_of as attack_options
from adversary.common.convert import KINDS
from adversary.common.plugins import PluginError
from fl_sim.data import DATASETS
from fl_sim.defences import DEFENCES, Defence
from fl_sim.defences import options_of as defence_options
from fl_sim.models import MODELS
from fl_sim.settings.declared import as_config_value, declared_settings
from strategies.registry import STRATEGY_NAMES
from strategies.registry import options_of as strategy_options

REGISTRIES: dict[str, Iterable[str] | Mapping[str, object]] = {
    "attacks": ATTACKS,
    "defences": DEFENCES,
    "models": MODELS,
    "data": DATASETS,
    "strategies": STRATEGY_NAMES,
}


def names_table(topic: str) -> Table:
    """Return the names of a registry, each with what it is (a defence: what it protects)."""
    entries = REGISTRIES[topic]
    table = Table(title=topic, title_justify="left", box=None, show_header=False)
    for name in entries:
        table.add_row(name, _summary(entries, name) if isinstance(entries, Mapping) else "")
    return table


_SETTINGS = ("setting", "default", "allowed", "meaning")
_PARAMETERS = ("setting", "default", "allowed")


def settings_tables() -> list[Table]:
    """Return every setting with its default, what it may be and what it means; and parameters."""
    return [_table(_SETTINGS, _settings()), _table(_PARAMETERS, _parameters())]


def settings_markdown() -> str:
    """Return the same tables as Markdown, for docs/reference/settings.md."""
    return "\n\n".join([_markdown(_SETTINGS, _settings()), _markdown(_PARAMETERS, _parameters())])


def _settings() -> Iterator[tuple[str, ...]]:
    for one in declared_settings():
        allowed = one.rule.allowed(one.kind)
        yield one.key, _default(as_config_value(one.default)), allowed, one.rule.help


def _parameters() -> Iterator[tuple[str, ...]]:
    """Yield the parameters of strategies, defences and attacks.

    What cannot be loaded is told elsewhere.
    """
    for name in STRATEGY_NAMES:
        for option, (kind, default) in strategy_options(name).items():
            yield f"strategy.{option} ({name})", _default(default), KINDS[kind]
    for name in DEFENCES:
        with suppress(PluginError):
            for option, (kind, default) in defence_options(DEFENCES[name]).items():
                yield f"defence.{option} ({name})", _default(default), KINDS[kind]
    for name in ATTACKS:
        with suppress(PluginError):
            for option, (kind, default) in attack_options(ATTACKS[name]).items():
                yield f"adversary.{name}.{option}", _default(default), KINDS[kind]


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*row)
    return table


def _markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    for key, default, *rest in rows:
        lines.append(f"| {' | '.join([f'`{key}`', f'`{default}`', *rest])} |")
    return "\n".join(lines)


def _default(default: object) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return f'"{default}"' if isinstance(default, str) else str(default)


def _summary(entries: Mapping[str, object], name: str) -> str:
    try:
        entry = entries[name]
    except PluginError as error:
        return str(error)
    if isinstance(entry, type) and issubclass(entry, Defence):
        return entry.protects
    documentation = inspect.getdoc(entry) if callable(entry) else None
    return documentation.splitlines()[0] if documentation else ""
