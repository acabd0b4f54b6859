"""A wrapped strategy keeps its own ``start``, methods and attributes."""

from __future__ import annotations

import json

import pytest
from flwr.app import ConfigRecord, MetricRecord
from flwr.server.strategy import FedAvg as FormerFedAvg
from flwr.serverapp.strategy import (
    DifferentialPrivacyServerSideFixedClipping,
    FedAvg,
    Result,
)

from strategies import HonestButCurious, ReplyValidation, RunLog
from strategies.wrappers.base import StrategyWrapper


class KeepsResults(FedAvg):
    """A loop of its own, as Flower's tutorial has it: it sets attributes and writes files."""

    started = 0

    def set_save_path(self, path):
        self.save_path = path

    def _update_best(self, server_round, loss, arrays):
        if loss < self.best_loss:
            self.best_loss = loss
            (self.save_path / f"best-{server_round}").write_bytes(arrays["fc.weight"].data)

    def start(
        self, grid, initial_arrays, num_rounds=2, train_config=None, evaluate_fn=None, note=""
    ):
        self.started += 1
        self.best_loss, self.note = float("inf"), note
        result, arrays, losses = Result(), initial_arrays, []
        for turn in range(1, num_rounds + 1):
            replies = grid.send_and_receive(self.configure_train(turn, arrays, train_config, grid))
            arrays, metrics = self.aggregate_train(turn, replies)
            result.arrays, result.train_metrics_clientapp[turn] = arrays, metrics
            if evaluate_fn:
                self._update_best(turn, evaluate_fn(turn, arrays)["loss"], arrays)
            losses.append(metrics["loss"])
        (self.save_path / "results.json").write_text(json.dumps([losses, self.note]))
        return result


class CallsTheBase(FedAvg):
    """Does something before and after Flower's loop."""

    started = 0

    def start(self, *args, **kwargs):
        self.started += 1
        return super().start(*args, **kwargs)


WRAPPED = {
    "curious": lambda s, foreign, recipe: HonestButCurious(s, foreign.Adversary(), recipe),
    "two": lambda s, foreign, recipe: HonestButCurious(
        ReplyValidation(s), foreign.Adversary(), recipe
    ),
    "logged": lambda s, foreign, recipe: RunLog(ReplyValidation(StrategyWrapper(s))),
}


def loss_of(server_round, arrays):
    return MetricRecord({"loss": float(arrays["fc.weight"].numpy().sum())})


@pytest.mark.parametrize("wrap", WRAPPED)
@pytest.mark.parametrize("evaluated", [True, False])
def test_a_start_of_its_own_runs_and_leaves_what_it_leaves(
    wrap, evaluated, foreign, recipe, tmp_path
):
    app, files = foreign.App(), {}
    results = {}
    for name in ("alone", wrap):
        folder = tmp_path / name
        folder.mkdir()
        own = KeepsResults()
        strategy = own if name == "alone" else WRAPPED[wrap](own, foreign, recipe)
        strategy.set_save_path(folder)
        options = {"evaluate_fn": loss_of} if evaluated else {}
        results[name] = foreign.bits(
            app.run(strategy, train_config=ConfigRecord(), note="mine", **options)
        )
        assert own.started == 1
        assert strategy.best_loss == own.best_loss
        files[name] = {f.name: f.read_bytes() for f in folder.iterdir()}
        assert not {"configure_train", "aggregate_train"} & vars(own).keys()
    assert results[wrap] == results["alone"]
    assert files[wrap] == files["alone"]
    assert "results.json" in files[wrap]


def test_its_defaults_are_kept(foreign, recipe, tmp_path):
    own, ledger = KeepsResults(), foreign.Ledger()
    strategy = HonestButCurious(own, foreign.Adversary(), recipe, ledger=ledger)
    strategy.set_save_path(tmp_path)
    app = foreign.App()
    grid = foreign.grid(app)
    strategy.start(grid, foreign.arrays(app), train_config=ConfigRecord())
    assert strategy.num_rounds == 2  # not Flower's 3
    assert [entry[0] for entry in ledger.named("round_done")] == [1, 2]
    assert ledger.named("close") == [("completed", "")]


def test_a_start_that_calls_flower_s(foreign, recipe):
    own = CallsTheBase()
    app = foreign.App()
    alone = foreign.bits(app.run(FedAvg()))
    ledger = foreign.Ledger()
    wrapped = HonestButCurious(own, foreign.Adversary(), recipe, ledger=ledger)
    assert foreign.bits(app.run(wrapped)) == alone
    assert own.started == 1
    assert len(ledger.named("outcome")) == 2 * app.clients


def test_a_step_that_was_set_on_the_strategy_itself_is_called_and_is_there_again(foreign):
    own, called = FedAvg(), []
    usual = own.aggregate_train

    def mine(server_round, replies):
        called.append(server_round)
        return usual(server_round, replies)

    own.aggregate_train = mine
    foreign.App().run(StrategyWrapper(own))
    assert called == [1, 2]
    assert vars(own)["aggregate_train"] is mine


def test_attributes_are_set_where_they_belong(foreign, recipe):
    own = FedAvg()
    strategy = HonestButCurious(ReplyValidation(own), foreign.Adversary(), recipe)
    strategy.fraction_train = 0.5
    assert own.fraction_train == 0.5
    strategy.goes_on = lambda *_: False
    assert not hasattr(own, "goes_on")
    with pytest.raises(AttributeError, match="no_such"):
        _ = strategy.no_such


def test_what_only_it_declares_stays_its_own(foreign, recipe):
    own = FedAvg()
    own.ledger, own.queue = "mine", "also mine"
    strategy = HonestButCurious(own, foreign.Adversary(), recipe, ledger=None)
    assert own.ledger == "mine"
    assert strategy.ledger is None
    assert strategy.queue != "also mine"


@pytest.mark.parametrize("dp", [False, True])
def test_clients_that_tell_their_number_by_another_name(dp, foreign, recipe):
    def renamed(content):
        metrics = content["metrics"]
        metrics["samples"] = metrics.pop("num-examples")
        return content

    app = foreign.App(batch_norm=False, spoil=dict.fromkeys(range(3), renamed))
    plain = FedAvg(weighted_by_key="samples", fraction_evaluate=0.0)
    inner = DifferentialPrivacyServerSideFixedClipping(plain, 0.0, 1.0, 3) if dp else plain
    alone = foreign.bits(app.run(inner, rounds=1))
    adversary = foreign.Adversary()
    strategy = HonestButCurious(ReplyValidation(inner), adversary, recipe)
    assert foreign.bits(app.run(strategy, rounds=1)) == alone
    assert sorted(seen.num_examples for seen in adversary.seen) == [2, 3, 4]


@pytest.mark.parametrize("strategy", [FormerFedAvg(), object(), FedAvg])
def test_what_is_no_strategy_of_today_is_a_line(strategy, foreign, recipe):
    with pytest.raises(TypeError, match="flwr.serverapp.strategy") as refused:
        HonestButCurious(strategy, foreign.Adversary(), recipe)
    assert "\n" not in str(refused.value)
    former = "former interface" in str(refused.value)
    assert former == isinstance(strategy, FormerFedAvg)
