"""Who was in an update: candidates told apart by what each would have added to it."""

from adversary.identification.one_update import (
    Gallery,
    Identification,
    IdentificationError,
    identify,
)

__all__ = ["Gallery", "Identification", "IdentificationError", "identify"]
