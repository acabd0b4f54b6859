"""Mistakes that are told before torch, which takes seconds, is imported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from fl_sim.cli.options import UsageError

if TYPE_CHECKING:
    from fl_sim.settings.schema import Settings

_RUN = "run.json"


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


def _status(folder: Path) -> str | None:
    """Return what run.json says of a run; None where it does not."""
    try:
        found = json.loads((folder / _RUN).read_text(encoding="utf-8")).get("status")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None


def check_paths(settings: Settings) -> None:
    """Make sure that files which the settings name are there.

    Raises
    ------
    UsageError
        With a line for each that is not.
    """
    from fl_sim.settings.names import IMAGENET

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
