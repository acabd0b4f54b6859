"""What is public of X-rays before any update: images, and normal distributions fitted to them.

Imports ``common``. To add a prior: a file with a distribution that has the methods of
:class:`~adversary.priors.gaussian.GaussianPrior`.
"""

from adversary.priors.gaussian import GaussianPrior, PriorError
from adversary.priors.public import Prior
from adversary.priors.random_field import RandomField
from adversary.priors.smooth import smooth_prior

__all__ = [
    "GaussianPrior",
    "Prior",
    "PriorError",
    "RandomField",
    "smooth_prior",
]
