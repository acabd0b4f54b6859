"""Going on with a run that was killed, stopped or failed."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from adversary.common.convert import Value
from adversary.common.errors import UserError
from adversary.common.files import private_folder
from adversary.storage.run_folder import RunFolder, one_line_io_errors
from fl_sim.federation import Federation
from fl_sim.settings.declared import defaults
from fl_sim.settings.parse import canonical, flatten
from fl_sim.settings.rules import SettingsError
from fl_sim.settings.schema import Settings

CHANGEABLE = ("resume", "out")
"""Settings that may differ from those of the run: the folder may have been moved."""


class ResumeError(UserError, ValueError):
    """A run that cannot go on; a line each."""


def settings_of(path: Path) -> dict[str, Value]:
    """Return the settings, flat, with which the run in a folder goes on there.

    Raises
    ------
    ValueError
        In one line, if there is no run, or none that got as far as to write its settings.
    """
    settings = RunFolder.open(path).info().get("settings")
    if not isinstance(settings, dict):
        raise ResumeError(f"--resume: the run in {path} had not begun; run it anew")
    return {**settings, "resume": True, "out": str(path)}


def open_for_resume(settings: Settings) -> RunFolder:
    """Return the folder of an unfinished run, if it can go on with these settings.

    Raises
    ------
    ValueError
        A line for each setting that differs from the run's, or one that says what is in the way.
    """
    folder = RunFolder.open(Path(settings.out).absolute())
    if folder.info()["status"] == "completed":
        raise ResumeError(f"resume = True: the run in {folder.path} is complete")
    before, now = canonical(settings_of(folder.path)), flatten(settings)
    if not settings.clients:  # as many as there were
        now["clients"] = before.get("clients", 0)
    wrong = [
        f"{key} = {now[key]!r}: the run in {folder.path} has {before.get(key, default)!r}; a run "
        "that goes on keeps its settings"
        for key, default in defaults().items()
        if key not in CHANGEABLE and now[key] != before.get(key, default)
    ]
    if wrong:
        raise SettingsError("\n".join(wrong))
    return folder


def check(run: Federation) -> None:
    """Raise :class:`ResumeError` where something of a run ended with its processes."""
    if run.defence.personal(run.model().state_dict()):
        raise ResumeError(
            f"defence.name = {run.settings.defence.name!r}: clients keep a part of the model, "
            "which ended with them; such a run cannot be resumed"
        )


@contextmanager
def run_lock(folder: RunFolder) -> Iterator[None]:
    """Keep other processes out of a run's folder while this one writes it; make it if missing.

    Raises
    ------
    ResumeError
        If another process writes it.
    RunFolderError
        If it cannot be made or read.
    """
    with one_line_io_errors(folder.path):
        private_folder(folder.path)
        directory = os.open(folder.path, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ResumeError(
                    f"{folder.path}: another process still writes this run"
                ) from error
        yield
    finally:
        os.close(directory)  # and with it the lock
