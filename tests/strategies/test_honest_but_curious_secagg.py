"""Under secure aggregation the adversary is shown the mean, and a masked vector, and no more."""

import numpy as np
import pytest
import torch
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.serverapp.strategy import FedAvg

from adversary.observation.observation import Observation
from strategies import HonestButCuriousSecAgg, ReplyValidation, RunLog
from strategies.grids.secure_aggregation import SecureAggregationGrid, secure_aggregation_mod
from strategies.honest_but_curious_secagg import _aggregate


def through(grid):
    return SecureAggregationGrid(grid, SecAggPlusWorkflow(1.0, 0.67, max_weight=5))


@pytest.fixture
def secure(foreign):
    def app(clients=3, **more):
        return foreign.App(clients=clients, mods=(secure_aggregation_mod,), **more)

    return app


def fails(content):
    raise RuntimeError("out of film")


def test_the_adversary_gets_the_mean_with_its_members(secure, foreign, recipe):
    adversary, results = foreign.Adversary(), []

    class Keeps(FedAvg):
        def aggregate_train(self, server_round, replies):
            results.append(super().aggregate_train(server_round, replies))
            return results[-1]

    app = secure()
    app.run(HonestButCuriousSecAgg(ReplyValidation(Keeps()), adversary, recipe), through=through)
    assert [one.client for one in adversary.seen] == ["aggregate", "client-00-masked"] * 2
    for number, (mean, masked) in enumerate(zip(*[iter(adversary.seen)] * 2, strict=True), start=1):
        assert (mean.round, mean.view, mean.num_examples) == (number, "aggregate", 9)
        assert mean.members == {"client-00": 2, "client-01": 3, "client-02": 4}
        assert mean.images == 9
        mean.check()
        for name, value in results[number - 1][0].to_torch_state_dict().items():
            assert torch.allclose(mean.returned[name].double(), value.double(), atol=1e-6)
        for name, value in app.loaded[number, 0].items():
            assert torch.allclose(mean.sent[name].double(), value.double(), atol=1e-6)

        assert (masked.round, masked.view, masked.num_examples) == (number, "client", 2)
        assert masked.members == {"client-00": 2}
        assert masked.images == 2
        masked.check()
        own = app.replied[number, 0]
        assert float((masked.returned["fc.weight"] - own["fc.weight"]).std()) > 1
        assert int(masked.returned["norm.num_batches_tracked"]) == number


def test_counts_of_the_members_are_averaged_by_their_images(recipe):
    """As Flower averages them; what is masked is the mean already."""
    state = {"weight": torch.ones(2), "batches": torch.tensor(0)}
    members = [
        Observation(
            round=1, client=name, sent=state, num_examples=images, recipe=recipe,
            returned={"weight": torch.full((2,), 3.0), "batches": torch.tensor(batches)},
        )
        for name, images, batches in (("a", 1, 10), ("b", 3, 20))
    ]  # fmt: skip
    found = _aggregate(members)
    assert float(found.returned["batches"]) == pytest.approx((1 * 10 + 3 * 20) / 4)
    assert found.returned["weight"].tolist() == [3.0, 3.0]
    assert (found.num_examples, found.members) == (4, {"a": 1, "b": 3})


def test_members_are_those_whose_update_is_in_the_mean(secure, foreign, recipe):
    adversary, ledger = foreign.Adversary(), foreign.Ledger()
    strategy = HonestButCuriousSecAgg(ReplyValidation(FedAvg()), adversary, recipe, ledger=ledger)
    secure(4, spoil={0: fails}).run(strategy, rounds=1, through=through)
    assert [one.client for one in adversary.seen] == ["aggregate", "client-01-masked"]
    assert adversary.seen[0].members == {"client-01": 3, "client-02": 4, "client-03": 5}
    assert adversary.seen[0].num_examples == 12
    [(_, client, reason)] = ledger.named("unusable")
    assert (client, "out of film" in reason) == ("client-00", True)


@pytest.mark.parametrize("act", [None, lambda observation: np.random.rand(7)])  # noqa: NPY002
def test_training_is_bit_for_bit_the_same_with_it(act, secure, foreign, recipe):
    watched = HonestButCuriousSecAgg(ReplyValidation(FedAvg()), foreign.Adversary(act=act), recipe)
    left_alone = RunLog(ReplyValidation(FedAvg()))
    found, expected = (secure().run(one, through=through) for one in (watched, left_alone))
    assert foreign.bits(found) == foreign.bits(expected)


def test_it_tells_how_far_the_attacks_are(secure, foreign, recipe):
    told = []
    strategy = HonestButCuriousSecAgg(
        FedAvg(), foreign.Adversary("a", "b"), recipe, tell=told.append
    )
    secure().run(strategy, rounds=2, through=through)
    assert [line.split(" · ")[0] for line in told] == [f"attack {i}/8" for i in range(1, 9)]


def test_an_observation_that_cannot_be_made_stops_no_training(secure, foreign, recipe, monkeypatch):
    def breaks(content):
        raise KeyError("masked")

    monkeypatch.setattr("strategies.honest_but_curious_secagg.masked_arrays", breaks)
    ledger = foreign.Ledger()
    strategy = HonestButCuriousSecAgg(FedAvg(), foreign.Adversary(), recipe, ledger=ledger)
    secure().run(strategy, rounds=1, through=through)
    assert ledger.named("unusable") == [(1, "aggregate", "not attacked: KeyError: 'masked'")]
    assert ledger.named("close") == [("completed", "")]


def test_rounds_that_are_not_attacked_show_nothing(secure, foreign, recipe):
    told, adversary = [], foreign.Adversary()
    strategy = HonestButCuriousSecAgg(
        FedAvg(), adversary, recipe, tell=told.append,
        select=lambda number, clients: clients[:1] if number == 2 else [],
    )  # fmt: skip
    secure().run(strategy, rounds=3, through=through)
    assert [(one.round, one.client) for one in adversary.seen] == [
        (2, "aggregate"), (2, "client-00-masked")
    ]  # fmt: skip
    assert len(adversary.seen[0].members) == 3
    assert [line.split(" · ")[0] for line in told] == ["attack 1/2", "attack 2/2"]
