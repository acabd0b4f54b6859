"""Errors and warnings of the data package."""

from __future__ import annotations

from adversary.common.errors import UserError, UserNotice


class DataError(UserError, ValueError):
    """One line for the user: which file or setting, its value, and what is allowed."""

    def __init__(self, message: str) -> None:
        super().__init__(in_one_line(message))


class DataWarning(UserNotice):
    """One line for the user: what was changed in the data so that it can be used."""

    def __init__(self, message: str) -> None:
        super().__init__(in_one_line(message))


def in_one_line(message: str) -> str:
    """Return a message without the line ends that names and cells may hold."""
    return " ".join(line.strip() for line in message.splitlines())
