"""The labels of an update, from its last layer, or without one.

Imports ``common``, ``observation``, ``problem``, ``optim``. To add a rule: a function and a line in
``RULES`` of :mod:`adversary.labels.recovery`.
"""

from adversary.labels.candidates import likely_labels
from adversary.labels.recovery import RULES, recover

__all__ = [
    "RULES",
    "likely_labels",
    "recover",
]
