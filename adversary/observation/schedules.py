"""Learning-rate schedules: by what factor a rate has changed at a round or a local step."""

from __future__ import annotations

import math
from collections.abc import Callable

# (place from 0, number of places, factor of a decay, places between decays) -> factor
Schedule = Callable[[int, int, float, int], float]


def constant(place: int, total: int, decay: float, every: int) -> float:
    """Return 1."""
    return 1.0


def cosine(place: int, total: int, decay: float, every: int) -> float:
    """Return half a cosine, from 1 to nearly 0 at the last of ``total`` places.

    Loshchilov and Hutter, "SGDR", ICLR 2017, without restarts; torch's ``CosineAnnealingLR``.
    """
    return 0.5 * (1 + math.cos(math.pi * place / total))


def step(place: int, total: int, decay: float, every: int) -> float:
    """Return ``decay`` to the number of times that ``every`` places have passed."""
    return decay ** (place // every)


SCHEDULES: dict[str, Schedule] = {"constant": constant, "cosine": cosine, "step": step}
