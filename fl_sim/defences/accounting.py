"""Privacy accounting: epsilon of a mechanism, and the noise for a given budget."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from adversary.common.errors import UserError

Unit = Literal["example", "client"]
Neighbours = Literal["add or remove one", "replace one"]

RELATIVE_TOLERANCE = 1e-3
"""How far below its target an epsilon may stay when noise is chosen for it."""


class PrivacyError(UserError, ValueError):
    """A budget that cannot be kept; one line that names the setting."""


@dataclass(frozen=True, kw_only=True)
class PrivacySpent:
    """An (epsilon, delta) guarantee, with all that it takes to read it.

    Parameters
    ----------
    epsilon : float
        Privacy loss bound, >= 0.
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
    neighbours: Neighbours
    unit: Unit
    against: str


def default_delta(units: int) -> float:
    """Return min(0.01, 0.9 / units), the delta of Ziegler et al. 2022 for that many units."""
    return min(1e-2, 0.9 / units)


def gaussian_account(
    *,
    noise_multiplier: float,
    steps: int,
    delta: float,
    unit: Unit,
    against: str,
    sample_rate: float = 1.0,
    neighbours: Neighbours = "add or remove one",
) -> PrivacySpent | None:
    """Return the account of a Gaussian mechanism on a Poisson sample, composed.

    Renyi differential privacy (Mironov 2017; Mironov, Talwar and Zhang 2019 for the sampling),
    as opacus computes it.

    Parameters
    ----------
    noise_multiplier : float
        Standard deviation of the noise over the L2 distance of neighbours, >= 0: the norm to
        which one unit is clipped, or twice that where one is replaced by another.
    steps : int
        How often the mechanism was used, >= 0.
    delta : float
        In (0, 1).
    unit, against, neighbours
        See :class:`PrivacySpent`.
    sample_rate : float
        Probability with which a unit takes part in a step, independently, in (0, 1].

    Returns
    -------
    Account or None
        None where there is no noise, hence no guarantee.
    """
    if not noise_multiplier:
        return None
    from opacus.accountants import RDPAccountant  # slow to import

    accountant = RDPAccountant()
    accountant.history = [(noise_multiplier, sample_rate, steps)]
    with _bounds_may_be_loose():
        epsilon = accountant.get_epsilon(delta=delta) if steps else 0.0
    return PrivacySpent(
        epsilon=max(0.0, float(epsilon)),  # for a large delta the conversion goes below 0
        delta=delta,
        accountant="RDP (opacus)",
        neighbours=neighbours,
        unit=unit,
        against=against,
    )


@lru_cache(maxsize=1024)
def noise_for_budget(
    epsilon: float, *, delta: float, steps: int, sample_rate: float = 1.0
) -> float:
    """Return the least noise multiplier with which ``steps`` steps stay within ``epsilon``.

    By bisection, to :data:`RELATIVE_TOLERANCE` of epsilon; for the parameters see
    :func:`gaussian_account`.

    Raises
    ------
    PrivacyError
        One line, if no amount of noise is enough for this accountant.
    """
    from opacus.accountants.utils import get_noise_multiplier

    try:
        with _bounds_may_be_loose():
            found = get_noise_multiplier(
                target_epsilon=epsilon,
                target_delta=delta,
                sample_rate=sample_rate,
                steps=steps,
                accountant="rdp",
                epsilon_tolerance=RELATIVE_TOLERANCE * epsilon,
            )
    except ValueError as error:
        raise PrivacyError(
            f"defence.epsilon = {epsilon}: cannot be had for delta = {delta:.2g} in "
            f"{steps} steps; must be larger"
        ) from error
    return float(found)


def _bounds_may_be_loose() -> warnings.catch_warnings:
    """Keep opacus from warning that its range of orders ends: the bound holds all the same."""
    return warnings.catch_warnings(action="ignore", category=UserWarning)
