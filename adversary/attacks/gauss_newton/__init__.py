"""Gauss-Newton: Levenberg-Marquardt on all residuals of an update in units of their noise.

``attack`` holds the attack, ``descent`` its steps under given labels. ReLU networks are approached
through ``softplus`` ones, and their ``activation_unknowns`` solved for. Batches whose images the
rank of a layer's gradient keeps apart begin by ``unmixing``, local steps by ``unmixing_steps``,
other images of one label by ``multistart`` in few ``principal_components``, and ``region_swaps``
mends what is left exchanged.
"""

from adversary.attacks.gauss_newton.activation_unknowns import ActivationResiduals
from adversary.attacks.gauss_newton.attack import GaussNewton
from adversary.attacks.gauss_newton.descent import MEMORY_BYTES
from adversary.attacks.gauss_newton.softplus import has_relu

__all__ = [
    "MEMORY_BYTES",
    "ActivationResiduals",
    "GaussNewton",
    "has_relu",
]
