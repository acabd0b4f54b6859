"""Flower strategies that a run config can name; in code any Strategy can be wrapped."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adversary.common.convert import OptionError, Value, as_option
from adversary.common.errors import UserError
from adversary.common.hints import did_you_mean

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy


@dataclass(frozen=True)
class StrategyEntry:
    """A class of flwr.serverapp.strategy, and what it asks of a federation.

    Parameters
    ----------
    cls : str
        Name of the class; a name, so that listing the choices does not import Flower.
    fixed : mapping
        Arguments that differ from Flower's defaults.
    settings : tuple of str
        Arguments that are settings of their own, and not options.
    needs_each : bool
        Whether it needs each client's update, where others do with the mean.
    needs_losses : bool
        Whether it weighs clients by their training losses.
    fewest : tuple of int
        (a, b) where it aggregates no fewer than a * num_malicious_nodes + b replies.
    whole_numbers : bool
        Whether models may hold whole numbers, such as the counters of batch normalisation.
    """

    cls: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    settings: tuple[str, ...] = ()
    needs_each: bool = False
    needs_losses: bool = False
    fewest: tuple[int, int] = (0, 1)
    whole_numbers: bool = True


STRATEGIES: dict[str, StrategyEntry] = {
    "fedavg": StrategyEntry("FedAvg"),
    "fedprox": StrategyEntry("FedProx", settings=("proximal_mu",)),
    # Flower's default momentum of 0 would make it FedAvg; 0.9 is that of Hsu et al. 2019.
    "fedavgm": StrategyEntry("FedAvgM", fixed={"server_momentum": 0.9}),
    "fedadam": StrategyEntry("FedAdam"),
    "fedadagrad": StrategyEntry("FedAdagrad"),
    "fedyogi": StrategyEntry("FedYogi"),
    "fedmedian": StrategyEntry("FedMedian", needs_each=True),
    "fedtrimmedavg": StrategyEntry("FedTrimmedAvg", needs_each=True),
    "krum": StrategyEntry("Krum", needs_each=True, fewest=(2, 3)),
    "multikrum": StrategyEntry("MultiKrum", needs_each=True, fewest=(2, 3)),
    "bulyan": StrategyEntry("Bulyan", needs_each=True, fewest=(4, 3)),
    "qfedavg": StrategyEntry(
        "QFedAvg",
        fixed={"train_loss_key": "loss"},
        settings=("client_learning_rate",),
        needs_each=True,
        needs_losses=True,
        whole_numbers=False,
    ),
}
"""By Flower's name in small letters; those that aggregate trees, and wrappers of others, aside."""

STRATEGY_NAMES = tuple(STRATEGIES)

_DECIDED = frozenset({
    "fraction_train", "fraction_evaluate", "min_train_nodes", "min_evaluate_nodes",
    "min_available_nodes", "weighted_by_key", "arrayrecord_key", "configrecord_key",
    "train_loss_key", "eta_l",
})  # fmt: skip
"""Arguments that follow from other settings, or that no client hears of (``eta_l``)."""

_MALICIOUS = "num_malicious_nodes"


class StrategyOptionError(UserError, ValueError):
    """An option that a strategy does not have, or a value that does not fit; one line."""


def averaging() -> tuple[str, ...]:
    """Return the names of the strategies that do with the mean of the clients' updates."""
    return tuple(name for name, choice in STRATEGIES.items() if not choice.needs_each)


def options_of(name: str) -> dict[str, tuple[type, Value]]:
    """Return the options of a strategy, of its constructor, with their types and defaults."""
    choice = STRATEGIES[name]
    arguments = inspect.signature(_class_of(name), eval_str=True).parameters.values()
    return {
        one.name: (one.annotation, choice.fixed.get(one.name, one.default))
        for one in arguments
        if one.annotation in (bool, int, float, str)
        and one.name not in _DECIDED
        and one.name not in choice.settings
    }


def typed_option(name: str, option: str, value: object) -> Value:
    """Return an option of the strategy ``name`` with the type that it has; it may be text.

    Raises
    ------
    StrategyOptionError
        One line, if there is no such option, or the value does not fit.
    """
    kinds = {key: kind for key, (kind, _) in options_of(name).items()}
    try:
        return as_option(option, value, kinds, name)
    except OptionError as error:
        raise StrategyOptionError(f"strategy.{error}") from error


def fewest_replies(name: str, options: Mapping[str, Value]) -> int:
    """Return how many clients have to train in a round for a strategy to aggregate at all."""
    each, least = STRATEGIES[name].fewest
    return each * int(options.get(_MALICIOUS, 0)) + least


def create(
    name: str,
    *,
    clients: int,
    fraction: float = 1.0,
    evaluate_fraction: float = 1.0,
    options: Mapping[str, Value] | None = None,
    settings: Mapping[str, Value] | None = None,
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
    options : mapping, optional
        Arguments of its own, of :func:`options_of`; numbers may be text.
    settings : mapping, optional
        Arguments that are settings of a run; those that this strategy has no use for are left out.

    Raises
    ------
    ValueError
        If there is no such strategy or option, or a value does not fit.
    """
    if name not in STRATEGIES:
        raise ValueError(
            f"strategy.name = {name!r}: must be one of {', '.join(STRATEGY_NAMES)}"
            + did_you_mean(name, STRATEGY_NAMES)
        )
    choice, settings = STRATEGIES[name], settings or {}
    own = {
        **choice.fixed,
        **{key: settings[key] for key in choice.settings if key in settings},
        **{key: typed_option(name, key, value) for key, value in (options or {}).items()},
    }
    try:
        strategy: Strategy = _class_of(name)(
            fraction_train=fraction,
            min_train_nodes=max(1, round(fraction * clients)),
            fraction_evaluate=evaluate_fraction,
            min_evaluate_nodes=max(1, round(evaluate_fraction * clients)),
            min_available_nodes=clients,
            **own,
        )
    except ValueError as error:  # Flower's own limits
        raise StrategyOptionError(f"strategy.name = {name!r}: {error}") from error
    return strategy


def _class_of(name: str) -> type[Any]:
    from flwr.serverapp import strategy as flower

    cls: type[Any] = getattr(flower, STRATEGIES[name].cls)
    return cls
