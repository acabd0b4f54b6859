"""One call around the strategy of somebody's app."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import torch
from flwr.app import ConfigRecord
from flwr.serverapp.strategy import FedAvg
from torch import nn

from adversary.attacks import DLG
from adversary.observation.observation import Observation
from strategies import curious
from strategies.wrappers.base import StrategyWrapper

SHAPE = (1, 8, 8)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def around(strategy, foreign, **options):
    app = foreign.App()
    options = {"image_shape": SHAPE, "attacks": [DLG(iterations=2)]} | options
    return curious(strategy, app.net(), **options)


def test_one_call_does_it_all(foreign, flower_log, tmp_path):
    app = foreign.App()
    alone = foreign.bits(app.run(FedAvg()))
    strategy = around(FedAvg(), foreign, batch_size=8)
    assert foreign.bits(app.run(strategy)) == alone
    folder = tmp_path / "results" / "curious"
    assert f"report: {folder / 'report.html'}" in flower_log
    assert (folder / "report.html").is_file()
    info = json.loads((folder / "run.json").read_text())
    assert info["status"] == "completed"
    assert info["settings"]["batch_size"] == 8
    rows = pd.read_csv(folder / "leakage.csv")
    images = rows.groupby(["round", "client"]).size()
    assert images.tolist() == [2, 3, 4, 2, 3, 4]
    assert (rows["status"] == "ok").all()
    assert rows["note"].str.contains("learning rate").all()
    assert sum("learning rate" in line for line in flower_log) == 1


def test_a_second_run_gets_a_folder_of_its_own(foreign, tmp_path):
    for _ in range(3):
        foreign.App().run(around(FedAvg(), foreign, batch_size=8, out="mine"), rounds=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "mine-2", "mine-3"]
    assert all((path / "report.html").is_file() for path in tmp_path.iterdir())


@pytest.mark.parametrize("key", ["lr", "learning-rate", "learning_rate"])
def test_the_rate_of_the_round_s_config_is_told(key, foreign):
    strategy = around(FedAvg(), foreign, batch_size=8)
    seen = []
    strategy.adversary.run_attacks = lambda one, *_, **__: seen.append(one) or iter(())
    foreign.App().run(strategy, rounds=1, train_config=ConfigRecord({key: 0.1}))
    assert {one.recipe.lr for one in seen} == {0.1}
    assert not any("learning rate" in note for one in seen for note in one.notes)


def test_the_attackers_recipe_is_the_clients(foreign):
    """Counted steps, estimated rates: near what the foreign clients really do."""
    strategy = around(FedAvg(), foreign)
    seen = []
    strategy.adversary.run_attacks = lambda one, *_, **__: seen.append(one) or iter(())
    foreign.App().run(strategy, rounds=1)
    assert sorted((one.images, one.steps) for one in seen) == [(2, 1), (3, 1), (4, 1)]
    assert all(0.02 < one.recipe.lr < 0.5 for one in seen)
    assert all(one.flags == () for one in seen)


def test_a_number_of_examples_that_counts_batches_is_flagged(foreign, tmp_path):
    def batches(content):
        content["metrics"]["num-examples"] = 1
        return content

    app = foreign.App(spoil={2: batches})
    app.run(around(FedAvg(), foreign, batch_size=4), rounds=1)
    rows = pd.read_csv(tmp_path / "results" / "curious" / "leakage.csv")
    # One step of one image, or of a batch: from one counted step alone nobody can tell.
    assert rows.groupby("client").size().tolist() == [2, 3, 1]


@pytest.mark.parametrize("normalise", [None, (0.9, 0.3)])
def test_images_that_are_normalised_on_the_way_are_noticed(normalise, foreign, flower_log):
    app = foreign.App(batch_norm=False)
    strategy = curious(
        *(FedAvg(), app.net()),
        image_shape=SHAPE,
        normalise=normalise,
        attacks=[DLG(iterations=1)],
        batch_size=8,
    )
    client = app.net()
    images, labels = foreign.own_images(2)
    nn.functional.cross_entropy(client((images - 0.9) / 0.3), labels).backward()
    sent = {n: v.clone() for n, v in client.state_dict().items()}
    torch.optim.SGD(client.parameters(), lr=0.01).step()
    seen = Observation(
        round=1,
        client="c",
        sent=sent,
        returned=dict(client.state_dict()),
        num_examples=4,
        recipe=strategy.recipe,
    )
    doubts = strategy._doubts(seen)
    assert len(doubts) == (normalise is None)
    assert any("normalise = " in line for line in flower_log) == (normalise is None)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"image_shape": (14,)}, ValueError, "tables hold no images"),
        ({"image_shape": (3, 8, 8)}, ValueError, "takes no such images"),
        ({"normalise": (0.5, 0)}, ValueError, "std > 0"),
        ({"batchsize": 8}, TypeError, "did you mean batch_size"),
        ({"attacks": "dgl"}, ValueError, "did you mean dlg"),
    ],
)
def test_what_does_not_fit_is_a_line_and_makes_no_folder(options, error, said, foreign, tmp_path):
    with pytest.raises(error, match=said) as refused:
        around(FedAvg(), foreign, **options)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_former_strategy_is_a_line(foreign):
    from flwr.server.strategy import FedAvg as Former

    with pytest.raises(TypeError, match="former interface"):
        around(Former(), foreign)


def test_it_goes_around_other_wrappers(foreign):
    app = foreign.App()
    alone = foreign.bits(app.run(FedAvg()))
    assert foreign.bits(app.run(around(StrategyWrapper(FedAvg()), foreign))) == alone
