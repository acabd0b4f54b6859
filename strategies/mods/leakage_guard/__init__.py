"""A mod that attacks a client's own update before it leaves, and decides whether it may.

``policy`` holds the limits that a hospital sets and what follows from figures, ``assessment`` the
attack and identification with the truth at hand, ``mod`` the Flower mod, which writes a table and a
page on the hospital's disk (:mod:`adversary.report.guard_page`).
"""

from strategies.mods.leakage_guard.assessment import Assessment, PrivateData
from strategies.mods.leakage_guard.mod import LeakageGuard
from strategies.mods.leakage_guard.policy import GuardPolicy

__all__ = ["Assessment", "GuardPolicy", "LeakageGuard", "PrivateData"]
