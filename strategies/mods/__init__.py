"""Protection at the source: Flower client mods for any app, ``@app.train(mods=[...])``.

``defences`` changes each update by a mechanism of :mod:`adversary.observation.mechanisms`;
``partial_sharing``, ``local_dp`` and ``soteria`` need more than the update for it;
``leakage_guard`` attacks the update before it leaves; ``audit`` puts the epsilon of a mod to the
test. ``updates`` is what they share. They need torch and Flower, and nothing of a simulation. Their
modules are imported when they are first used.

To add one: a class of :class:`~strategies.mods.updates.UpdateMod`, and a line below.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from strategies.mods.audit import audit_mod
    from strategies.mods.defences import (
        GaussianNoiseMod,
        PercentileNoiseMod,
        PercentilePrivacyMod,
        QuantiseMod,
        TopKMod,
    )
    from strategies.mods.leakage_guard import GuardPolicy, LeakageGuard, PrivateData
    from strategies.mods.local_dp import CalibratedLocalDpMod
    from strategies.mods.partial_sharing import PartialSharingMod
    from strategies.mods.soteria import SoteriaMod

__all__ = [
    "CalibratedLocalDpMod",
    "GaussianNoiseMod",
    "GuardPolicy",
    "LeakageGuard",
    "PartialSharingMod",
    "PercentileNoiseMod",
    "PercentilePrivacyMod",
    "PrivateData",
    "QuantiseMod",
    "SoteriaMod",
    "TopKMod",
    "audit_mod",
]

_HOMES = {
    "GaussianNoiseMod": "defences",
    "PercentileNoiseMod": "defences",
    "PercentilePrivacyMod": "defences",
    "QuantiseMod": "defences",
    "TopKMod": "defences",
    "CalibratedLocalDpMod": "local_dp",
    "GuardPolicy": "leakage_guard",
    "LeakageGuard": "leakage_guard",
    "PrivateData": "leakage_guard",
    "PartialSharingMod": "partial_sharing",
    "SoteriaMod": "soteria",
    "audit_mod": "audit",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"strategies.mods.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'strategies.mods' has no attribute {name!r}")
