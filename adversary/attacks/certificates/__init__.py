"""What an attacker can state of a reconstruction without the truth.

The posterior at an estimate (:mod:`adversary.attacks.certificates.posterior`), the test whether the
update is explained (:mod:`adversary.attacks.certificates.goodness`), and what follows from both
(:mod:`adversary.attacks.certificates.certify`). Imports problem, residuals and priors; no attack.
"""

from adversary.attacks.certificates.certify import Rival, Statement, Tried, certify
from adversary.attacks.certificates.encoded import Encoded, spares_columns
from adversary.attacks.certificates.goodness import Goodness, goodness
from adversary.attacks.certificates.interval_posterior import interval_posterior
from adversary.attacks.certificates.posterior import Laplace, Posterior, expected_psnr, prior_psnr

__all__ = [
    "Encoded",
    "Goodness",
    "Laplace",
    "Posterior",
    "Rival",
    "Statement",
    "Tried",
    "certify",
    "expected_psnr",
    "goodness",
    "interval_posterior",
    "prior_psnr",
    "spares_columns",
]
