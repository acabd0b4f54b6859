"""The standard adversary: a fixed ensemble without parameters to choose.

:mod:`.attack` holds the class, :mod:`.members` what is tried and when, :mod:`.referee` the one
score by which all are compared, :mod:`.effort` what each may cost. A new member is an entry of
:data:`.members.MEMBERS`; it imports any attack, and nothing outside this folder imports it.
"""

from adversary.attacks.standard.attack import Standard
from adversary.attacks.standard.effort import EFFORTS, Effort

__all__ = ["EFFORTS", "Effort", "Standard"]
