"""Recursive: every layer's input in closed form from the gradient, from the head down.

``attack`` holds the attack, ``layer_recursion`` the way down the ``layer_graph``. Of each layer the
``layer_equations`` give inputs where enough of them hold; which units of a ReLU are on is found by
``patterns_by_enumeration``, ``_by_shifts``, ``_by_linear_program`` or ``_from_concatenation``;
``image_scales`` settles one factor an image; ``least_absolute_deviations`` or ``feature_inversion``
go from the lowest layers to the images.
"""

from adversary.attacks.recursive.attack import Recursive

__all__ = [
    "Recursive",
]
