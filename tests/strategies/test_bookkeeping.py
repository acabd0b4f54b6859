from __future__ import annotations

import pytest
from flwr.app import MetricRecord
from flwr.serverapp.strategy import FedAvg

from strategies import Bookkeeping


def evaluate(server_round, arrays):
    return MetricRecord({"loss": 0.5 + server_round, "auc": 0.75})


def raises(content):
    raise RuntimeError("broken\nscanner")


def test_a_row_for_every_round(foreign):
    ledger = foreign.Ledger()
    result = foreign.App().run(Bookkeeping(FedAvg(), ledger=ledger), evaluate_fn=evaluate)
    rows = ledger.named("round_done")
    assert [row[0] for row in rows] == [1, 2]
    for number, values in rows:
        client_loss = result.evaluate_metrics_clientapp[number]["loss"]
        assert values.pop("seconds") > 0
        assert values == {
            "loss": 0.5 + number, "auc": 0.75, "client_loss": client_loss,
            "clients": 3, "clients_failed": 0,
        }  # fmt: skip
    assert ledger.entries[-1] == ("close", "completed", "")


def test_without_central_evaluation_the_row_has_no_loss(foreign):
    ledger = foreign.Ledger()
    foreign.App().run(Bookkeeping(FedAvg(), ledger=ledger), rounds=1)
    [(_, values)] = ledger.named("round_done")
    assert values["loss"] is None
    assert values["auc"] is None
    assert values["client_loss"] > 0


def test_failed_clients_are_counted_and_named(foreign):
    ledger = foreign.Ledger()
    foreign.App(spoil={2: raises}).run(Bookkeeping(FedAvg(), ledger=ledger), rounds=1)
    [(_, values)] = ledger.named("round_done")
    assert (values["clients"], values["clients_failed"]) == (3, 1)
    assert ledger.named("unusable") == [(1, "client-02", "failed: RuntimeError: broken scanner")]


def test_a_client_that_does_not_answer_is_named(foreign):
    class Hasty(Bookkeeping):
        def aggregate_train(self, server_round, replies):
            return super().aggregate_train(server_round, list(replies)[1:])

    ledger = foreign.Ledger()
    strategy = Hasty(FedAvg(), ledger=ledger, client_names={1000: "a", 1001: "b", 1002: "c"})
    foreign.App().run(strategy, rounds=1)
    [(_, _, reason)] = ledger.named("unusable")
    assert reason == "did not answer"


@pytest.mark.parametrize(
    ("error", "entry"),
    [
        (RuntimeError("no good\nat all"), ("failed", "RuntimeError: no good at all")),
        (KeyboardInterrupt(), ("stopped", "")),
    ],
)
def test_how_a_run_ended_is_written(error, entry, foreign):
    class Breaks(FedAvg):
        def aggregate_train(self, server_round, replies):
            raise error

    ledger = foreign.Ledger()
    with pytest.raises(type(error)):
        foreign.App().run(Bookkeeping(Breaks(), ledger=ledger))
    assert ledger.named("close") == [entry]


def test_a_report_with_holes_is_not_called_complete(foreign):
    ledger = foreign.Ledger()
    ledger.errors.append("no space left on device")
    foreign.App().run(Bookkeeping(FedAvg(), ledger=ledger), rounds=1)
    assert ledger.named("close") == [
        ("failed", "the report is not complete: no space left on device")
    ]


def test_a_broken_ledger_does_not_change_training(foreign, flower_log):
    app = foreign.App()
    alone = foreign.bits(app.run(FedAvg()))
    ledger = foreign.Ledger("round_done", "unusable", "close")
    assert foreign.bits(app.run(Bookkeeping(FedAvg(), ledger=ledger))) == alone
    assert any("ledger could not be written" in line for line in flower_log)
