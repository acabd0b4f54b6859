"""Errors and warnings of the data package."""

from __future__ import annotations


class DataError(ValueError):
    """One line for the user: which file or setting, its value, and what is allowed."""


class DataWarning(UserWarning):
    """One line for the user: what was changed in the data so that it can be used."""
