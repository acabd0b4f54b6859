"""EncGrad: encodings from the last layer's gradient, then images with these encodings.

``attack`` holds the attack, ``encodings`` its first phase, ``map_inversion`` the second in closed
form.
"""

from adversary.attacks.encgrad.attack import EncGradInversion
from adversary.attacks.encgrad.encodings import Encodings

__all__ = [
    "EncGradInversion",
    "Encodings",
]
