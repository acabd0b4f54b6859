"""What an attacker can state of a reconstruction without the truth.

The posterior at an estimate (:mod:`adversary.certificates.posterior`), the test whether the
update is explained (:mod:`adversary.certificates.goodness`), and what follows from both
(:mod:`adversary.certificates.certify`). Imports problem, residuals and priors; no attack.
"""

from adversary.certificates.certify import Rival, Statement, certify
from adversary.certificates.encoded import Encoded
from adversary.certificates.goodness import Goodness, goodness
from adversary.certificates.posterior import Laplace, Posterior, expected_psnr, prior_psnr

__all__ = [
    "Encoded",
    "Goodness",
    "Laplace",
    "Posterior",
    "Rival",
    "Statement",
    "certify",
    "expected_psnr",
    "goodness",
    "prior_psnr",
]
