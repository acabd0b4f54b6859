"""Central DP bounds the released model and hides nothing from the server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg, FedProx
from flwr.supercore.privacy_accounting import GaussianPrivacyEvent

from adversary.observation.recipe import TrainingRecipe
from adversary.storage.run_folder import RunFolder
from fl_sim import defences
from fl_sim.defences import DefenceError
from fl_sim.defences.central_dp import CentralDp
from fl_sim.engines.in_process import InProcessGrid, run_in_process
from fl_sim.federation import build_federation
from strategies import registry
from strategies.wrappers.central_dp import CentralDP

RECIPE = TrainingRecipe(lr=0.1, batch_size=1)
START = np.zeros(4000, np.float32)


def aggregated(strategy, updates, examples):
    """Return the global model after a round in which the clients returned ``updates``."""
    from flwr.clientapp import ClientApp

    grid = InProcessGrid(ClientApp(), len(updates))
    arrays = ArrayRecord({"w": Array(START)})
    messages = list(strategy.configure_train(1, arrays, ConfigRecord(), grid))
    replies = []
    for message in sorted(messages, key=lambda m: m.metadata.dst_node_id):
        index = message.metadata.dst_node_id - 1000
        metrics = MetricRecord({"num-examples": examples[index]})
        content = RecordDict({"arrays": ArrayRecord({"w": Array(updates[index])}), "m": metrics})
        replies.append(Message(content, reply_to=message))
    before = [reply.content["arrays"]["w"].numpy().copy() for reply in replies]
    result, _ = strategy.aggregate_train(1, replies)
    for reply, then, count in zip(replies, before, examples, strict=True):
        assert np.array_equal(reply.content["arrays"]["w"].numpy(), then)
        assert reply.content["m"]["num-examples"] == count
    return result["w"].numpy()


def private(noise=1.0, *, clip=1.0, clients=3, delta=1e-3, base=FedAvg):
    plain = base(min_train_nodes=clients, min_available_nodes=clients)
    return CentralDP(plain, noise_multiplier=noise, clip=clip, clients=clients, delta=delta)


def test_updates_are_clipped_and_count_equally():
    draw = np.random.default_rng(1)
    updates = [draw.normal(size=START.shape).astype(np.float32) * s for s in (1e-4, 1, 10)]
    found = aggregated(private(0.0, clip=2.0), updates, [5, 1, 90])
    expected = np.mean([u * min(1, 2 / np.linalg.norm(u)) for u in updates], axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-8)


def test_noise_has_the_size_that_is_accounted():
    np.random.seed(3)  # noqa: NPY002 (Flower draws from there)
    found = aggregated(private(4.0, clip=0.5), [START + 1e-9] * 3, [1] * 3)
    assert float(found.std()) == pytest.approx(4.0 * 0.5 / 3, rel=0.05)


@pytest.mark.parametrize(("noise", "rounds"), [(1.0, 1), (3.0, 20), (8.0, 200)])
def test_the_account_agrees_with_flowers(noise, rounds):
    accountant = private(noise).private.accountant
    event = GaussianPrivacyEvent(noise_multiplier=noise, sample_size=3, population_size=3)
    accountant.compose(event, rounds)
    defence = CentralDp(noise_multiplier=noise, delta=1e-3)
    account = defence.account(RECIPE, num_examples=9, clients=3, rounds=rounds)
    assert account.epsilon == pytest.approx(accountant.get_privacy_spent().epsilon, rel=0.01)
    assert (account.unit, account.delta) == ("client", 1e-3)
    assert "not the server" in account.against


def test_without_noise_nothing_is_accounted():
    assert private(0.0).private.accountant is None
    defence = CentralDp(noise_multiplier=0.0)
    assert defence.account(RECIPE, num_examples=9, clients=3, rounds=1) is None


@pytest.mark.parametrize("name", registry.STRATEGY_NAMES)
def test_only_what_averages_as_fedavg_can_be_accounted(name):
    plain = registry.create(
        name, clients=3, settings={"proximal_mu": 0.1, "client_learning_rate": 0.1}
    )
    if name in ("fedavg", "fedprox"):
        defence = CentralDp().prepare(rounds=1, strategy=name, examples=[8, 8])
        assert isinstance(defence.strategy(plain, clients=3), CentralDP)
        return
    with pytest.raises(DefenceError, match=f"^strategy.name = '{name}': central-dp needs fedavg"):
        CentralDp().prepare(rounds=1, strategy=name, examples=[8, 8])
    with pytest.raises(ValueError, match=r"FedAvg.aggregate_train"):  # Flower's own rule
        CentralDp().strategy(plain, clients=3)


def test_a_proximal_strategy_is_wrapped_as_well():
    assert private(base=lambda **more: FedProx(proximal_mu=0.1, **more)).private.accountant


def test_batch_normalisation_is_replaced():
    from fl_sim.models import create

    model = CentralDp().model(create("resnet18", channels=1, image_size=16, outputs=2))
    assert not list(model.buffers())


@pytest.mark.parametrize("option", ["clip=0", "noise_multiplier=-1", "delta=1"])
def test_mistakes_are_named_in_one_line(option):
    name, _, value = option.partition("=")
    with pytest.raises(DefenceError, match=f"^defence.{name} = .*: must be"):
        defences.create("central-dp", {name: value})


def test_the_server_sees_what_it_sees_without_a_defence(quick, tmp_path):
    leakage, models = {}, {}
    for name in ("none", "central-dp"):
        settings = quick(
            out=str(tmp_path / name), defence__name=name, rounds=2, adversary__record=True
        )
        run_in_process(settings)
        folder = RunFolder.open(tmp_path / name)
        leakage[name] = folder.leakage().drop(columns="seconds")
        models[name] = torch.tensor(folder.rounds()["loss"])
        assert folder.rounds()["epsilon"].isna().all() == (name == "none")
    first = {name: rows[rows["round"] == 1].to_csv() for name, rows in leakage.items()}
    assert first["none"] == first["central-dp"]
    assert not torch.allclose(models["none"], models["central-dp"])  # but the model is noisy

    folder = RunFolder.open(tmp_path / "central-dp")
    accounts = folder.accounts()
    run = build_federation(quick(defence__name="central-dp", rounds=2), 3)
    assert set(accounts["unit"]) == {"client"}
    assert accounts["epsilon"].max() == pytest.approx(run.account(0, rounds=2).epsilon)
    assert folder.rounds()["client_loss"].notna().all()


def test_a_strategy_that_does_not_fit_is_told_at_once(quick):
    settings = quick(defence__name="central-dp", strategy__name="fedadam")
    with pytest.raises(DefenceError, match="^strategy.name = 'fedadam'"):
        build_federation(settings, 3)
    assert not Path(settings.out).exists()
