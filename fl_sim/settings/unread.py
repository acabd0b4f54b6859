"""Settings that nothing reads under the other settings: refused, rather than passed over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fl_sim.settings.declared import defaults as default_config
from fl_sim.settings.names import WITHOUT_FILES
from fl_sim.settings.parse import flatten
from fl_sim.settings.rules import SettingsError
from fl_sim.settings.schema import Settings


@dataclass(frozen=True)
class Reader:
    """What has to be so for some settings to be read, in words and as a test of all settings."""

    keys: tuple[str, ...]
    needs: str
    reads: Callable[[Settings], bool]


READERS = (
    Reader(
        ("data.path",),
        "data.name = 'folder', or another data set of files",
        lambda s: s.data.name not in WITHOUT_FILES,
    ),
    Reader(
        ("data.alpha",),
        "data.partition = 'dirichlet' or 'quantity'",
        lambda s: s.data.partition != "iid",
    ),
    Reader(("model.activation",), "model.name = 'convnet'", lambda s: s.model.name == "convnet"),
    Reader(
        ("local.decay", "local.decay-every"),
        "local.schedule = 'step'",
        lambda s: s.local.schedule == "step",
    ),
    Reader(
        ("strategy.proximal-mu",),
        "strategy.name = 'fedprox'",
        lambda s: s.strategy.name == "fedprox",
    ),
    Reader(
        ("strategy.plateau-factor",),
        "strategy.plateau-patience > 0",
        lambda s: s.strategy.plateau_patience > 0,
    ),
    Reader(
        ("strategy.monitor", "strategy.min-delta"),
        "strategy.stop-patience or strategy.plateau-patience > 0",
        lambda s: s.strategy.stop_patience > 0 or s.strategy.plateau_patience > 0,
    ),
    Reader(
        ("adversary.start-image",),
        "adversary.start = 'image'",
        lambda s: s.adversary.start == "image",
    ),
    Reader(
        ("adversary.candidates",),
        "adversary.identify = true",
        lambda s: s.adversary.identify,
    ),
)


def refuse_unread(settings: Settings) -> None:
    """Raise for settings that differ from their defaults where nothing reads them.

    Raises
    ------
    SettingsError
        With one line for each.
    """
    defaults = default_config()
    given = flatten(settings)
    errors = [
        f"{key} = {given[key]!r}: nothing reads it without {reader.needs}"
        for reader in READERS
        if not reader.reads(settings)
        for key in reader.keys
        if given[key] != defaults[key]
    ]
    if errors:
        raise SettingsError("\n".join(errors))
