"""Which images a client used in a round: for scoring only.

The simulation knows the partition and every seed, so it can work out afterwards what a client
trained on. Nothing of it travels in a reply, and no attack sees it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

_PREFIX = "client-"


def client_name(number: int) -> str:
    """Return the name of the client with a partition's number, from 0."""
    return f"{_PREFIX}{number:02d}"


def client_number(name: str) -> int | None:
    """Return the partition's number of a client; None if it is not one of this federation."""
    number = name.removeprefix(_PREFIX)
    return int(number) if name.startswith(_PREFIX) and number.isdigit() else None
