"""Flower strategies that a user drops into an app of their own.

Their modules are imported when they are first used, so that what needs only the names of
:mod:`strategies.choices` does not import Flower.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from strategies.bookkeeping import Bookkeeping
    from strategies.curious_aggregator import CuriousAggregator
    from strategies.guarded import Guarded, NoUsableReplyError
    from strategies.honest_but_curious import HonestButCurious
    from strategies.secure_aggregation import SecureAggregationGrid, secure_aggregation_mod

__all__ = [
    "Bookkeeping",
    "CuriousAggregator",
    "Guarded",
    "HonestButCurious",
    "NoUsableReplyError",
    "SecureAggregationGrid",
    "secure_aggregation_mod",
]

_HOMES = {
    "Bookkeeping": "bookkeeping",
    "CuriousAggregator": "curious_aggregator",
    "Guarded": "guarded",
    "HonestButCurious": "honest_but_curious",
    "NoUsableReplyError": "guarded",
    "SecureAggregationGrid": "secure_aggregation",
    "secure_aggregation_mod": "secure_aggregation",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"strategies.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'strategies' has no attribute {name!r}")
