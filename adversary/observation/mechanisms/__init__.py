"""What a client does to its update before it leaves, and what an attacker makes of that.

One file each, of tensors alone: ``fl_sim.defences`` makes defences of a simulation of them,
``strategies.mods`` mods for any Flower app. ``base`` is the interface. Imports ``channel`` and
``observation``; to add one: a file with a class of :class:`Mechanism`, and a line below.
"""

from adversary.observation.mechanisms.base import (
    DefenceError,
    Mechanism,
    Nothing,
    is_buffer,
    received,
)
from adversary.observation.mechanisms.clipped_gaussian import ClippedGaussian
from adversary.observation.mechanisms.kept_arrays import KeptArrays
from adversary.observation.mechanisms.percentile_noise import PercentileNoise
from adversary.observation.mechanisms.percentile_privacy import PercentilePrivacy
from adversary.observation.mechanisms.quantised import Quantised
from adversary.observation.mechanisms.relative_noise import RelativeNoise
from adversary.observation.mechanisms.top_k import TopK

__all__ = [
    "ClippedGaussian",
    "DefenceError",
    "KeptArrays",
    "Mechanism",
    "Nothing",
    "PercentileNoise",
    "PercentilePrivacy",
    "Quantised",
    "RelativeNoise",
    "TopK",
    "is_buffer",
    "received",
]
