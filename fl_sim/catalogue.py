"""What a setting can name, and the settings themselves, as tables to read."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping

from rich.table import Table

from adversary.attacks import ATTACKS
from adversary.plugins import PluginError
from fl_sim.data import DATASETS
from fl_sim.defences import DEFENCES, Defence
from fl_sim.models import MODELS
from fl_sim.settings import Declared, declared
from strategies.choices import STRATEGY_NAMES

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


def settings_table() -> Table:
    """Return every setting with its default, what it may be and what it means."""
    table = Table("setting", "default", "allowed", "meaning", box=None)
    for one in declared():
        table.add_row(one.key, _default(one), one.rule.allowed(one.kind), one.rule.help)
    return table


def settings_markdown() -> str:
    """Return the table of settings as Markdown, for docs/reference/settings.md."""
    rows = ["| setting | default | allowed | meaning |", "| --- | --- | --- | --- |"]
    for one in declared():
        allowed = one.rule.allowed(one.kind)
        rows.append(f"| `{one.key}` | `{_default(one)}` | {allowed} | {one.rule.help} |")
    return "\n".join(rows)


def _default(one: Declared) -> str:
    if isinstance(one.default, bool):
        return str(one.default).lower()
    return f'"{one.default}"' if isinstance(one.default, str) else str(one.default)


def _summary(entries: Mapping[str, object], name: str) -> str:
    try:
        entry = entries[name]
    except PluginError as error:
        return str(error)
    if isinstance(entry, type) and issubclass(entry, Defence):
        return entry.protects
    documentation = inspect.getdoc(entry) if callable(entry) else None
    return documentation.splitlines()[0] if documentation else ""
