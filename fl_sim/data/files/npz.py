"""Reading NumPy archives that users brought."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil

from fl_sim.data.errors import DataError


def read_arrays(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    """Return the arrays of these names; nothing is unpickled.

    Raises
    ------
    KeyError
        If one of them is not there.
    DataError
        If the file cannot be read, or its arrays would not fit into memory.
    """
    try:
        _check_size(path, names)
        with np.load(path, allow_pickle=False) as arrays:
            return [arrays[name] for name in names]
    except DataError:
        raise
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile):
        raise DataError(f"{path}: cannot be read as an npz file") from None
    # A damaged archive makes zipfile, and a damaged header numpy, raise these.
    except (NotImplementedError, RuntimeError, MemoryError, SyntaxError, zlib.error):
        raise DataError(f"{path}: cannot be read as an npz file, it is damaged") from None


def _check_size(path: Path, names: Sequence[str]) -> None:
    """Raise :class:`DataError` where a small archive unpacks to more than there is memory."""
    wanted = {f"{name}.npy" for name in names}
    with zipfile.ZipFile(path) as file:
        size = sum(entry.file_size for entry in file.infolist() if entry.filename in wanted)
    if size > (free := _free_memory()):
        raise DataError(
            f"{path}: takes {size / 2**30:.3g} GiB unpacked; {free / 2**30:.3g} GiB are free"
        )


def _free_memory() -> int:
    return int(psutil.virtual_memory().available)
