"""How bright the numbers in a file are: the full scale of its format, or what the user says."""

from __future__ import annotations

import warnings

import numpy as np

from fl_sim.data.errors import DataError, DataWarning

_LOW = {255: 63, 65535: 32767}
"""Highest values, by full scale, at which a whole data set is told to be suspiciously dark."""


class Depth:
    """Brings stored numbers to [0, 1], and remembers how high they were.

    Twelve bits are often kept in files of sixteen. Such pictures come out nearly black, and
    nothing in a file tells it, so a low maximum over all pictures is told.

    Parameters
    ----------
    max_value : float
        The number that is white, where it is below the full scale of a file; 0 is the full scale.
    """

    def __init__(self, max_value: float = 0) -> None:
        self._max_value = max_value
        self._highest: dict[float, float] = {}

    def scaled(self, values: np.ndarray, full: float | None, where: str) -> np.ndarray:
        """Return numbers of any shape as float32 in [0, 1].

        Parameters
        ----------
        values : ndarray
            What the file holds.
        full : float or None
            The full scale of its format; None if it has none, as of floating-point numbers.
        where : str
            The file's name for error messages.

        Raises
        ------
        DataError
            If a number is below 0, above what is white, or none.
        """
        low, high = float(values.min()), float(values.max())
        white = min(full or np.inf, self._max_value or np.inf)
        if not np.isfinite([low, high]).all() or low < 0:
            raise DataError(f"{where}: holds numbers from {low:g} to {high:g}; allowed are >= 0")
        if white == np.inf:
            white = 1.0
        if high > white:
            given = f"data.max-value = {self._max_value:g}" if self._max_value else "data.max-value"
            raise DataError(f"{where}: holds numbers up to {high:g}; {given} must be at least that")
        if full:
            self._highest[full] = max(self._highest.get(full, 0), high)
        return (values / white).astype(np.float32)

    def tell(self, name: str) -> None:
        """Warn where the pictures so far, of a data set of that name, were suspiciously dark."""
        if self._max_value:
            return
        for full, low in _LOW.items():
            if full in self._highest and 0 < self._highest[full] <= low:
                highest = int(self._highest[full])
                guess = 2 ** highest.bit_length() - 1
                warnings.warn(
                    f"{name}: pictures of {full.bit_length()} bits have no value above {highest}, "
                    f"and are read as nearly black; if {guess} is white, say so by "
                    f"data.max-value = {guess}",
                    DataWarning,
                    stacklevel=3,
                )
