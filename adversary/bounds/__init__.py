"""What no attacker is expected to exceed: the Bayesian Cramer-Rao bound at the truth.

``fisher_information`` is what an update tells of its images, ``cramer_rao`` the PSNR that follows.
Imports ``common`` (the truth, too), ``observation``, ``priors``, ``problem``; no attack.

To add a bound: a file, and a line in ``BOUNDS`` of :mod:`fl_sim.adversary_setup`.
"""

from adversary.bounds.cramer_rao import BoundBudget, BoundResult, cramer_rao_bound
from adversary.bounds.fisher_information import BoundError

__all__ = [
    "BoundBudget",
    "BoundError",
    "BoundResult",
    "cramer_rao_bound",
]
