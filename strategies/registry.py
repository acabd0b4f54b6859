"""Flower strategies that a run config can name; in code any Strategy can be wrapped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy


@dataclass(frozen=True)
class StrategyEntry:
    """A class of flwr.serverapp.strategy, and what it is given beyond the sampling.

    Parameters
    ----------
    cls : str
        Name of the class; a name, so that listing the choices does not import Flower.
    fixed : mapping
        Arguments that differ from Flower's defaults.
    options : tuple of str
        Arguments that the caller of :func:`create` decides.
    needs_each : bool
        Whether it needs each client's update, where others do with the mean.
    """

    cls: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    needs_each: bool = False


STRATEGIES: dict[str, StrategyEntry] = {
    "fedavg": StrategyEntry("FedAvg"),
    "fedprox": StrategyEntry("FedProx", options=("proximal_mu",)),
    # Flower's default momentum of 0 would make it FedAvg; 0.9 is that of Hsu et al. 2019.
    "fedavgm": StrategyEntry("FedAvgM", fixed={"server_momentum": 0.9}),
    "fedadam": StrategyEntry("FedAdam"),
    "fedmedian": StrategyEntry("FedMedian", needs_each=True),
}
STRATEGY_NAMES = tuple(STRATEGIES)


def averaging() -> tuple[str, ...]:
    """Return the names of the strategies that do with the mean of the clients' updates."""
    return tuple(name for name, choice in STRATEGIES.items() if not choice.needs_each)


def create(
    name: str,
    *,
    clients: int,
    fraction: float = 1.0,
    evaluate_fraction: float = 1.0,
    **options: Any,
) -> Strategy:
    """Return the Flower strategy of that name.

    Parameters
    ----------
    name : str
        One of :data:`STRATEGY_NAMES`.
    clients : int
        Number of clients.
    fraction : float
        Share of them that trains a round, in (0, 1]; at least one does.
    evaluate_fraction : float
        Share of them that evaluates the model after a round, in [0, 1]; 0 is none, else at least
        one does.
    **options
        Arguments by name; those that this strategy has no use for are left out.

    Raises
    ------
    ValueError
        If there is no such strategy.
    """
    if name not in STRATEGIES:
        raise ValueError(f"strategy.name = {name!r}: must be one of {', '.join(STRATEGY_NAMES)}")
    from flwr.serverapp import strategy as flower

    choice = STRATEGIES[name]
    cls = getattr(flower, choice.cls)
    return cls(
        fraction_train=fraction,
        min_train_nodes=max(1, round(fraction * clients)),
        fraction_evaluate=evaluate_fraction,
        min_evaluate_nodes=max(1, round(evaluate_fraction * clients)),
        min_available_nodes=clients,
        **choice.fixed,
        **{key: options[key] for key in choice.options if key in options},
    )
