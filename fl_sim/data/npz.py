"""Reading NumPy archives that users brought."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fl_sim.data.errors import DataError


def read_arrays(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    """Return the arrays of these names; nothing is unpickled.

    Raises
    ------
    KeyError
        If one of them is not there.
    DataError
        If the file cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return [arrays[name] for name in names]
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile):
        raise DataError(f"{path}: cannot be read as an npz file") from None
