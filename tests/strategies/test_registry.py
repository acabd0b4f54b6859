from __future__ import annotations

import pytest
from flwr.serverapp import strategy as flower

from strategies import registry


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("fedavg", flower.FedAvg),
        ("fedprox", flower.FedProx),
        ("fedavgm", flower.FedAvgM),
        ("fedadam", flower.FedAdam),
        ("fedmedian", flower.FedMedian),
    ],
)
def test_every_name_makes_its_strategy(name, cls):
    made = registry.create(name, clients=5, fraction=0.5, proximal_mu=0.3)
    assert type(made) is cls
    assert (made.fraction_train, made.min_train_nodes) == (0.5, 2)
    assert (made.min_evaluate_nodes, made.min_available_nodes) == (5, 5)
    assert getattr(made, "proximal_mu", 0.3) == 0.3
    assert getattr(made, "server_momentum", 0.9) == 0.9


def test_the_names_are_those_tested():
    assert registry.STRATEGY_NAMES == ("fedavg", "fedprox", "fedavgm", "fedadam", "fedmedian")


def test_at_least_one_client_trains():
    assert registry.create("fedavg", clients=4, fraction=0.01).min_train_nodes == 1


@pytest.mark.parametrize(("fraction", "least"), [(0.5, 2), (0.01, 1)])
def test_a_share_of_the_clients_evaluates(fraction, least):
    made = registry.create("fedavg", clients=5, evaluate_fraction=fraction)
    assert (made.fraction_evaluate, made.min_evaluate_nodes) == (fraction, least)


def test_an_unknown_name_is_one_line():
    with pytest.raises(ValueError, match=r"^strategy.name = 'fedsgd': must be one of fedavg, "):
        registry.create("fedsgd", clients=2)
