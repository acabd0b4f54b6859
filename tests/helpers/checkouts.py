"""Copies of the checkout as it was committed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

NOT_ITS_OWN = shutil.ignore_patterns(
    ".*cache", ".venv*", ".hypothesis", "__pycache__", "site", "results"
)
"""What tools leave in an unpacked source archive; git knows it by itself."""


def copied(root: Path, target: Path) -> Path:
    """Copy what is committed, or all of an unpacked source archive, to a new folder."""
    if not (root / ".git").exists():
        shutil.copytree(root, target, ignore=NOT_ITS_OWN)
        return target
    packed = target.with_suffix(".zip")
    command = ["git", "-C", str(root), "archive", "--format=zip", "-o", str(packed), "HEAD"]
    subprocess.run(command, check=True)
    shutil.unpack_archive(packed, target)
    packed.unlink()
    return target
