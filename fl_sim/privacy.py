"""What a differentially private mechanism has earned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Account:
    """An (epsilon, delta) guarantee, with all that it takes to read it.

    Parameters
    ----------
    epsilon : float
        Privacy loss bound, > 0; infinite without noise.
    delta : float
        In (0, 1).
    accountant : str
        Who worked it out, e.g. "RDP (opacus)".
    neighbours : str
        Which data sets are not to be told apart: "add or remove one" or "replace one".
    unit : {"example", "client"}
        One of what is added, removed or replaced.
    against : str
        From whom it protects, e.g. "everyone, the server included".
    """

    epsilon: float
    delta: float
    accountant: str
    neighbours: Literal["add or remove one", "replace one"]
    unit: Literal["example", "client"]
    against: str
