"""Who was in an update: candidates told apart by what each would have added to it.

:func:`identify` asks of one update, :mod:`adversary.identification.joining` joins rounds,
:mod:`adversary.identification.ceilings` says what a privacy account leaves to any attacker. Imports
``common``, ``observation``, ``priors``, ``problem`` and ``optim``. Nothing but
:mod:`adversary.identification.figures` sees who was a member.
"""

from adversary.identification.one_update import (
    Gallery,
    Identification,
    IdentificationError,
    identify,
)

__all__ = ["Gallery", "Identification", "IdentificationError", "identify"]
