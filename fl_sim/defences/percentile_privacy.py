"""Only the entries above a percentile are sent, and none beyond a limit."""

from __future__ import annotations

from dataclasses import dataclass

from adversary.observation import mechanisms
from fl_sim.defences.base import UpdateDefence


@dataclass(frozen=True, kw_only=True)
class PercentilePrivacy(mechanisms.PercentilePrivacy, UpdateDefence):
    """The defence of :class:`adversary.observation.mechanisms.PercentilePrivacy`."""

    protects = (
        "Keeps the smallest entries of an update from the server, and how large the largest are; "
        "all between leave exactly. Earns no epsilon. Batch-norm statistics leave as they are."
    )
