"""Settings files that come along, in a checkout and in an installed package."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from fl_sim.engines.bundle import checkout

FOLDER = "configs"


def shipped() -> dict[str, Path]:
    """Return the settings files that come along, by their names without ``.toml``."""
    root = checkout()
    if root is not None:
        files = [*(root / FOLDER).glob("*.toml")]
    else:
        installed = metadata.files("fl-sim") or ()
        files = [
            Path(str(file.locate()))
            for file in installed
            if file.suffix == ".toml" and file.parent.name == FOLDER
        ]
    return {file.stem: file for file in sorted(files)}


def settings_file(path: Path) -> Path:
    """Return a settings file: one on disk, or one that comes along by its name.

    ``demo``, ``demo.toml`` and ``configs/demo.toml`` are the same where no such file is.
    """
    if path.exists() or path.parent.parts not in {(), (FOLDER,)}:
        return path
    return shipped().get(path.stem if path.suffix == ".toml" else path.name, path)
