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
        ("fedadagrad", flower.FedAdagrad),
        ("fedyogi", flower.FedYogi),
        ("fedmedian", flower.FedMedian),
        ("fedtrimmedavg", flower.FedTrimmedAvg),
        ("krum", flower.Krum),
        ("multikrum", flower.MultiKrum),
        ("bulyan", flower.Bulyan),
        ("qfedavg", flower.QFedAvg),
    ],
)
def test_every_name_makes_its_strategy(name, cls):
    settings = {"proximal_mu": 0.3, "client_learning_rate": 0.02}
    made = registry.create(name, clients=5, fraction=0.5, settings=settings)
    assert type(made) is cls
    assert (made.fraction_train, made.min_train_nodes) == (0.5, 2)
    assert (made.min_evaluate_nodes, made.min_available_nodes) == (5, 5)
    assert getattr(made, "proximal_mu", 0.3) == 0.3
    assert getattr(made, "server_momentum", 0.9) == 0.9
    assert getattr(made, "client_learning_rate", 0.02) == 0.02
    assert getattr(made, "train_loss_key", "loss") == "loss"


def test_the_names_are_all_of_flowers_that_aggregate_weights():
    found = {
        name.lower()
        for name in flower.__all__
        if issubclass(cls := getattr(flower, name), flower.Strategy) and cls is not flower.Strategy
        and not name.startswith(("DifferentialPrivacy", "FedXgb"))  # wrappers, trees
    }  # fmt: skip
    assert set(registry.STRATEGY_NAMES) == found
    assert {entry.cls.lower() for entry in registry.STRATEGIES.values()} == found


@pytest.mark.parametrize("name", registry.STRATEGY_NAMES)
def test_options_are_those_of_the_constructor_and_reach_it(name):
    for option, (kind, default) in registry.options_of(name).items():
        made = registry.create(name, clients=9, settings={"client_learning_rate": 0.1})
        assert getattr(made, option) == default
        value = kind(default + 1) if kind is int else default / 2
        made = registry.create(
            name, clients=9, options={option: str(value)}, settings={"client_learning_rate": 0.1}
        )
        assert getattr(made, option) == value
        assert type(getattr(made, option)) is kind


def test_what_a_strategy_does_not_take_is_one_line():
    for option, value, said in [
        ("etta", 1, r"^strategy\.etta: unknown option; fedadam takes eta, .*; did you mean eta\?"),
        ("fraction_train", 1, r"^strategy\.fraction_train: unknown option"),
        ("eta", "much", r"^strategy\.eta = 'much': must be a number"),
    ]:
        with pytest.raises(registry.StrategyOptionError, match=said) as caught:
            registry.create("fedadam", clients=2, options={option: value})
        assert "\n" not in str(caught.value)


def test_flowers_own_limits_are_told_in_a_line():
    with pytest.raises(
        registry.StrategyOptionError, match=r"^strategy\.name = 'fedtrimmedavg': `beta` must be"
    ):
        registry.create("fedtrimmedavg", clients=4, options={"beta": 0.5})


@pytest.mark.parametrize(
    ("name", "malicious", "fewest"),
    [("fedavg", None, 1), ("krum", None, 3), ("multikrum", 2, 7), ("bulyan", 1, 7)],
)
def test_how_many_replies_a_strategy_needs(name, malicious, fewest):
    options = {} if malicious is None else {"num_malicious_nodes": malicious}
    assert registry.fewest_replies(name, options) == fewest


def test_at_least_one_client_trains():
    assert registry.create("fedavg", clients=4, fraction=0.01).min_train_nodes == 1


@pytest.mark.parametrize(("fraction", "least"), [(0.5, 2), (0.01, 1)])
def test_a_share_of_the_clients_evaluates(fraction, least):
    made = registry.create("fedavg", clients=5, evaluate_fraction=fraction)
    assert (made.fraction_evaluate, made.min_evaluate_nodes) == (fraction, least)


def test_an_unknown_name_is_one_line():
    with pytest.raises(ValueError, match=r"^strategy.name = 'fedsgd': must be one of fedavg, "):
        registry.create("fedsgd", clients=2)
