"""Mistakes that are told before torch, which takes seconds, is imported."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fl_sim.cli.options import UsageError

if TYPE_CHECKING:
    from fl_sim.settings.schema import Settings

_RUN = "run.json"
T = TypeVar("T", str, dict[str, Any])


def check_run(folder: Path) -> None:
    """Make sure that a folder is one of a run.

    Raises
    ------
    UsageError
        If it is none.
    """
    if not (folder / _RUN).exists():
        why = f"it has no {_RUN}" if folder.is_dir() else "no such folder"
        raise UsageError(f"{folder} is not the folder of a run ({why})")


def check_recorded(folder: Path, *, missing: bool = False) -> None:
    """Make sure that a folder is one of a run, with updates that can be attacked again.

    Raises
    ------
    UsageError
        If it is none, is of an app whose model is not known here, or holds no updates; with
        ``missing``, or while the run goes on, there need be none.
    """
    check_run(folder)
    if "image_shape" in _told(folder, "settings", {}):  # by strategies.curious
        raise UsageError(
            f"{folder} is of a Flower app of its own, whose model is not known here: "
            "adversary.Observation.load reads its updates, for an adversary.Adversary"
        )
    going_on = _told(folder, "status", "") == "running"  # its lock says more, later
    if not (missing or going_on or any((folder / "updates").glob("round-*/*.safetensors"))):
        keep = "run with adversary.record = true to keep them"
        raise UsageError(f"{folder} holds no recorded updates: {keep}")


def check_any_run(folder: Path) -> None:
    """Make sure that there is a run below a folder.

    Raises
    ------
    UsageError
        If there is none.
    """
    if next(folder.rglob(_RUN), None) is None:
        raise UsageError(f"{folder}: no run, and no folder of a run below it")


def check_writable(folder: Path) -> None:
    """Make sure that a folder can be made and written to, by making one where it is to be.

    Raises
    ------
    UsageError
        If not.
    """
    there = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        tempfile.TemporaryDirectory(dir=there).cleanup()
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}") from error


def check_compared(config: Path, given: Mapping[str, Any]) -> None:
    """Make sure that a settings file says what is to be compared.

    Raises
    ------
    UsageError
        If it has no defences.
    """
    if not given.get("compare.defence"):
        raise UsageError(
            f"--config {config}: compare.defence: must be one or more tables [[compare.defence]]"
        )


def check_free(folder: Path, *, overwrite: bool) -> None:
    """Make sure that there is no run yet where one is to be made.

    A run that says it is going on is left to whoever takes its lock: it may be alive.

    Raises
    ------
    UsageError
        If there is one; to go on with it, where it can, is named before to replace it.
    """
    if (folder / _RUN).exists() and not overwrite and _status(folder) != "running":
        ways = ways_on(folder)
        raise UsageError(f"results folder {folder} already holds a run; name another ({ways})")


def ways_on(folder: Path) -> str:
    """Return what can be done where a run is there already."""
    going = _status(folder) in ("running", "stopped", "failed")
    return f"{'--resume goes on with it, ' if going else ''}--overwrite replaces it"


def _status(folder: Path) -> str:
    """Return the status that run.json tells; empty where it does not."""
    return _told(folder, "status", "")


def _told(folder: Path, key: str, default: T) -> T:
    """Return an entry of run.json; the default where there is none of its type."""
    try:
        found = json.loads((folder / _RUN).read_text(encoding="utf-8")).get(key)
    except (OSError, ValueError, AttributeError):
        return default
    return found if isinstance(found, type(default)) else default


def check_paths(settings: Settings) -> None:
    """Make sure that files which the settings name are there.

    Raises
    ------
    UsageError
        With a line for each that is not.
    """
    from fl_sim.settings.names import IMAGENET, OF_FILES

    if settings.data.name in OF_FILES and not settings.data.path:
        raise UsageError(f"data.path = '': the data set '{settings.data.name}' needs a path")
    given = {
        "data.path": "" if settings.data.name == "huggingface" else settings.data.path,
        "model.weights": "" if settings.model.weights == IMAGENET else settings.model.weights,
        "adversary.start-image": settings.adversary.start_image,
    }
    missing = [
        f"{key} = {path!r}: no such file or folder"
        for key, path in given.items()
        if path and not Path(path).expanduser().exists()
    ]
    if missing:
        raise UsageError("\n".join(missing))


def check_weights(**given: str) -> None:
    """Make sure that the checkpoints of options are there, each a file, or RUN or RUN@ROUND.

    Raises
    ------
    UsageError
        With a line for each that is not.
    """
    missing = []
    for option, one in given.items():
        run, at, _ = one.rpartition("@")
        if Path(one).expanduser().exists() or (at and Path(run).expanduser().exists()):
            continue
        why = f"no run's folder at {run}" if at else "no such file or folder"
        missing.append(f"--{option} {one}: {why}")
    if missing:
        raise UsageError("\n".join(missing))
