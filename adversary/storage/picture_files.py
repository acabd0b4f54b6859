"""Pictures as files."""

from __future__ import annotations

from pathlib import Path

from adversary.common.files import atomic_write
from adversary.common.results import Files


def write_files(folder: Path, files: Files) -> None:
    """Write pictures into a folder, made, readable by its owner alone, where missing."""
    for name, content in files.items():
        with atomic_write(folder / name) as temporary:
            temporary.write_bytes(content)
