"""The images whose encodings are the update's: Levenberg-Marquardt on an encoder.

``attack`` holds the attack, ``encoding_equations`` what it solves.
"""

from adversary.attacks.encoder.attack import Encoder
from adversary.attacks.encoder.encoding_equations import EncodingEquations, EncodingError

__all__ = [
    "Encoder",
    "EncodingEquations",
    "EncodingError",
]
