"""Flower strategies that a user drops into an app of their own.

``curious`` puts the adversary around a strategy in one call. ``honest_but_curious`` attacks what a
strategy is sent; ``wrappers`` go around strategies and
``grids`` around Flower's grid, as server_app puts them together::

    RoundOffset(HonestButCurious(LearningRateSchedule(ReplyValidation(CentralDP(FedAvg)))))

    OrderedGrid(SecureAggregationGrid(PollingGrid(Flower's grid)))

Their modules are imported when they are first used, so that what needs only the names of
:mod:`strategies.registry` does not import Flower.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from strategies.drop_in import CuriousStrategy, curious
    from strategies.grids.secure_aggregation import SecureAggregationGrid, secure_aggregation_mod
    from strategies.honest_but_curious import HonestButCurious
    from strategies.honest_but_curious_secagg import HonestButCuriousSecAgg
    from strategies.wrappers.reply_validation import NoUsableReplyError, ReplyValidation
    from strategies.wrappers.run_log import RunLog

__all__ = [
    "CuriousStrategy",
    "HonestButCurious",
    "HonestButCuriousSecAgg",
    "NoUsableReplyError",
    "ReplyValidation",
    "RunLog",
    "SecureAggregationGrid",
    "curious",
    "secure_aggregation_mod",
]

_HOMES = {
    "CuriousStrategy": "drop_in",
    "curious": "drop_in",
    "RunLog": "wrappers.run_log",
    "HonestButCuriousSecAgg": "honest_but_curious_secagg",
    "ReplyValidation": "wrappers.reply_validation",
    "HonestButCurious": "honest_but_curious",
    "NoUsableReplyError": "wrappers.reply_validation",
    "SecureAggregationGrid": "grids.secure_aggregation",
    "secure_aggregation_mod": "grids.secure_aggregation",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"strategies.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'strategies' has no attribute {name!r}")
