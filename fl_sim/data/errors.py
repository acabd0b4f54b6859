"""The error a user of the data can cause."""

from __future__ import annotations


class DataError(ValueError):
    """One line for the user: which file or setting, its value, and what is allowed."""
