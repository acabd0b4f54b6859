"""Pictures as files."""

from __future__ import annotations

from pathlib import Path

from adversary.common.files import replacing
from adversary.common.results import Files


def write(folder: Path, files: Files) -> None:
    """Write pictures into a folder, made, readable by its owner alone, where missing."""
    for name, content in files.items():
        with replacing(folder / name) as temporary:
            temporary.write_bytes(content)
