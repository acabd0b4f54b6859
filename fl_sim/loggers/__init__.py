"""Where the figures of a run go besides its folder: one file each.

To add one: a file with a class of :class:`~fl_sim.loggers.base.Logger`, and a line in ``LOGGERS``
of :mod:`fl_sim.settings.schema`; its package is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from adversary.common.errors import UserError
from fl_sim.settings.schema import LOGGERS

if TYPE_CHECKING:
    from adversary.storage.run_folder import RunFolder
    from fl_sim.loggers.base import Logger
    from fl_sim.settings.schema import Settings


class LoggerError(UserError, ValueError):
    """A logger whose package is not installed; one line that says how to get it."""


def create(settings: Settings, folder: RunFolder) -> list[Logger]:
    """Return the loggers that the settings name, ready to write.

    Raises
    ------
    LoggerError
        If a package is missing.
    """
    return [make(settings, folder) for make in makers(settings)]


def makers(settings: Settings) -> list[Callable[[Settings, RunFolder], Logger]]:
    """Return what makes each logger; raise :class:`LoggerError` if a package is missing."""
    names = [name.strip() for name in settings.loggers.split(",") if name.strip()]
    return [_class(name) for name in names]


def _class(name: str) -> Callable[[Settings, RunFolder], Logger]:
    try:
        module = import_module(f"fl_sim.loggers.{name}")
    except ImportError as error:
        raise LoggerError(
            f"loggers = {name!r}: {error.name} is not installed; pip install 'fl-sim[loggers]'"
        ) from error
    found: Callable[[Settings, RunFolder], Logger] = getattr(module, LOGGERS[name])
    return found
