"""Settings that nothing reads under the other settings: refused, rather than passed over."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from fl_sim.settings.declared import defaults as default_config
from fl_sim.settings.layers import is_option
from fl_sim.settings.names import WITHOUT_FILES
from fl_sim.settings.parse import flatten
from fl_sim.settings.rules import SettingsError, split_list
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
        lambda s: "image" in split_list(s.adversary.start),
    ),
    Reader(
        ("adversary.candidates",),
        "adversary.identify = true",
        lambda s: s.adversary.identify,
    ),
    Reader(("adversary.choice",), "adversary.clients > 0", lambda s: s.adversary.clients > 0),
)


AUDIT_PASSES_OVER = (
    "rounds", "resume", "checkpoints", "loggers",
    "data.num-images", "data.public", "data.test-fraction", "data.validation-fraction",
    "data.partition", "data.alpha", "data.sizes", "data.on-error", "model.class-weights",
    "strategy.name", "strategy.options", "strategy.evaluate-fraction", "strategy.proximal-mu",
    "strategy.monitor",
    "strategy.min-delta", "strategy.stop-patience", "strategy.plateau-patience",
    "strategy.plateau-factor",
    "adversary.enabled", "adversary.num-gpus", "adversary.workers", "adversary.queue-limit",
    "adversary.every", "adversary.clients", "adversary.choice", "adversary.identify",
    "adversary.candidates",
)  # fmt: skip
"""Settings of a federation that an audit of two checkpoints has no use for."""

REATTACK_PASSES_OVER = (
    "adversary.enabled", "adversary.num-gpus", "adversary.workers", "adversary.queue-limit",
    "adversary.every", "adversary.choice", "adversary.identify", "adversary.candidates",
)  # fmt: skip
"""Settings of a live adversary that an attack on what was recorded has no use for."""


def unread(settings: Settings) -> dict[str, str]:
    """Return a line for each setting that differs from its default where nothing reads it."""
    defaults = default_config()
    given = flatten(settings)
    return {
        key: f"{key} = {given[key]!r}: nothing reads it without {reader.needs}"
        for reader in READERS
        if not reader.reads(settings)
        for key in reader.keys
        if given[key] != defaults[key]
    }


def refuse_unread(settings: Settings) -> None:
    """Raise for settings that differ from their defaults where nothing reads them.

    Raises
    ------
    SettingsError
        With one line for each.
    """
    if errors := unread(settings):
        raise SettingsError("\n".join(errors.values()))


def refuse_unread_changes(
    settings: Settings, changes: Mapping[str, object], command: str, passed_over: Collection[str]
) -> None:
    """Raise for changes of a run's settings that a command does not read.

    What the run itself was told is left alone: it was read then.

    Parameters
    ----------
    settings : Settings
        With the changes.
    changes : mapping
        What the command was told, flat.
    command : str
        Its name, for the message.
    passed_over : collection of str
        Settings that it never reads.

    Raises
    ------
    SettingsError
        With one line for each.
    """
    of_the_command = {key: f"{key}: {command} does not read it" for key in passed_over}
    lines = unread(settings) | of_the_command
    for key in filter(is_option, changes):
        if f"{key.partition('.')[0]}.options" in of_the_command:
            lines[key] = f"{key}: {command} does not read it"
    if errors := [lines[key] for key in changes if key in lines]:
        raise SettingsError("\n".join(errors))
