"""Who was in an update: candidates told apart by what each would have added to it.

:func:`identify` asks of one update, :class:`Identifier` of each update of a federation,
:mod:`adversary.identification.joining` joins rounds, :mod:`adversary.identification.ceilings` says
what a privacy account leaves to any attacker. Imports
``common``, ``observation``, ``priors``, ``problem`` and ``optim``. Nothing but
:mod:`adversary.identification.figures` sees who was a member.
"""

from adversary.identification.identifier import IdentificationResult, Identifier
from adversary.identification.one_update import (
    Gallery,
    Identification,
    IdentificationError,
    check_public,
    identify,
)

__all__ = [
    "Gallery",
    "Identification",
    "IdentificationError",
    "IdentificationResult",
    "Identifier",
    "check_public",
    "identify",
]
