"""Numerics that know no attack: first-order search, Levenberg-Marquardt, linear solvers.

``loop`` minimises an objective with one of ``optimizers`` and the ``distances`` between updates;
``levenberg_marquardt`` minimises squared residuals through ``quadratic_models`` of them, with
``prior_terms`` beside. ``search`` is an attack's clock, limits and history. Imports ``common``,
``priors``, ``problem``.

To add an optimiser: a class with ``step`` and ``stalled``, see
:class:`~adversary.optim.loop.Optimizer`.
"""

from adversary.optim.loop import Objective, Optimizer, Recording, minimise
from adversary.optim.search import Limits, Progress, Search

__all__ = [
    "Limits",
    "Objective",
    "Optimizer",
    "Progress",
    "Recording",
    "Search",
    "minimise",
]
