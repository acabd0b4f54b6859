"""Strategy state, such as momentum, that is saved with the global model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from flwr.serverapp.strategy import Strategy
from numpy.typing import NDArray

_LISTS = ("momentum_vector",)  # of FedAvgM, in the order of the arrays
_TABLES = ("m_t", "v_t")  # of FedAdam and its kind, by array
_ACCOUNTANT = "accountant"  # of Flower's differential privacy


@dataclass(frozen=True)
class StrategyState:
    """What :func:`load_state_dict` gives back to a strategy made anew.

    Parameters
    ----------
    arrays : dict of str to ndarray
        Moments of the server's optimiser, by "attribute/array".
    facts : dict
        What else there is, as JSON has it.
    """

    arrays: dict[str, NDArray] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def state_dict(strategy: Strategy) -> StrategyState:
    """Return what a strategy, and those it wraps, have gathered so far."""
    memory = StrategyState()
    for layer in _layers(strategy):
        for name in _LISTS:
            for number, value in enumerate(getattr(layer, name, None) or ()):
                memory.arrays[f"{name}/{number}"] = value
        for name in _TABLES:
            for key, value in (getattr(layer, name, None) or {}).items():
                memory.arrays[f"{name}/{key}"] = value
        if (accountant := getattr(layer, _ACCOUNTANT, None)) is not None:
            memory.facts[_ACCOUNTANT] = accountant.state_dict()
    return memory


def load_state_dict(strategy: Strategy, memory: StrategyState) -> None:
    """Put what :func:`state_dict` returned into a strategy of the same kind, in place."""
    found: dict[str, dict[str, NDArray]] = {}
    for path, value in memory.arrays.items():
        name, _, key = path.partition("/")
        found.setdefault(name, {})[key] = value
    for layer in _layers(strategy):
        for name in (name for name in _LISTS if name in found and hasattr(layer, name)):
            entries = found[name]
            setattr(layer, name, [entries[str(number)] for number in range(len(entries))])
        for name in (name for name in _TABLES if name in found and hasattr(layer, name)):
            setattr(layer, name, found[name])
        if (accountant := getattr(layer, _ACCOUNTANT, None)) is not None:
            accountant.load_state_dict(memory.facts[_ACCOUNTANT])


def _layers(strategy: Strategy | None) -> Iterator[Strategy]:
    """Yield a strategy, the one it wraps, and so on."""
    while strategy is not None:
        yield strategy
        strategy = getattr(strategy, "strategy", None)
