"""Names of a run's files and folders."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from adversary.observation.observation import MASKED

if TYPE_CHECKING:
    import pandas as pd


def unmasked(leakage: pd.DataFrame) -> pd.DataFrame:
    """Return leakage without the rows of masked updates: they show that masks hide, no more."""
    return leakage[~leakage["client"].str.endswith(MASKED, na=False)]


def safe_name(name: str) -> str:
    """Return ``name`` as one component of a path: letters, digits, dot, dash and underscore.

    A name that has to be changed gets a short hash of the original, so that two names never
    share a path.
    """
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".")
    if safe == name and 0 < len(name) <= 69:
        return safe
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{safe[:60]}-{digest}" if safe else digest


def round_of(update: Path) -> int:
    """Return the round of a recorded update, from its path."""
    return int(update.parent.name.removeprefix("round-"))


def round_folder(number: int) -> str:
    """Return the name of a round's folder."""
    return f"round-{number:03d}"
