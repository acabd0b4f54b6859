from __future__ import annotations

import math

import pytest
from flwr.app import MessageType, MetricRecord
from flwr.serverapp.strategy import FedAvg

from strategies import RunLog


def evaluate(server_round, arrays):
    return MetricRecord({"loss": 0.5 + server_round, "auc": 0.75})


def raises(content):
    raise RuntimeError("broken\nscanner")


def test_a_row_for_every_round(foreign):
    ledger = foreign.Ledger()
    result = foreign.App().run(RunLog(FedAvg(), ledger=ledger), evaluate_fn=evaluate)
    rows = ledger.named("round_done")
    assert [row[0] for row in rows] == [1, 2]
    for number, values in rows:
        client_loss = result.evaluate_metrics_clientapp[number]["loss"]
        assert values.pop("seconds") > 0
        assert values == {
            "loss": 0.5 + number, "auc": 0.75, "client_loss": client_loss,
            "clients": 3, "clients_failed": 0, "lr": None, "client_auc": None,
            "auc_left_out": None,
        }  # fmt: skip
    assert ledger.entries[-1] == ("close", "completed", "")


def test_without_central_evaluation_the_row_has_no_loss(foreign):
    ledger = foreign.Ledger()
    foreign.App().run(RunLog(FedAvg(), ledger=ledger), rounds=1)
    [(_, values)] = ledger.named("round_done")
    assert values["loss"] is None
    assert values["auc"] is None
    assert values["client_loss"] > 0


def test_failed_clients_are_counted_and_named(foreign):
    ledger = foreign.Ledger()
    foreign.App(spoil={2: raises}).run(RunLog(FedAvg(), ledger=ledger), rounds=1)
    [(_, values)] = ledger.named("round_done")
    assert (values["clients"], values["clients_failed"]) == (3, 1)
    assert ledger.named("unusable") == [(1, "client-02", "failed: RuntimeError: broken scanner")]


def test_a_client_that_does_not_answer_is_named(foreign):
    class Hasty(RunLog):
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
        foreign.App().run(RunLog(Breaks(), ledger=ledger))
    assert ledger.named("close") == [entry]


def test_a_report_with_holes_is_not_called_complete(foreign):
    ledger = foreign.Ledger()
    ledger.errors.append("no space left on device")
    foreign.App().run(RunLog(FedAvg(), ledger=ledger), rounds=1)
    assert ledger.named("close") == [
        ("failed", "the report is not complete: no space left on device")
    ]


def test_a_broken_ledger_does_not_change_training(foreign, flower_log):
    app = foreign.App()
    alone = foreign.bits(app.run(FedAvg()))
    ledger = foreign.Ledger("round_done", "unusable", "close")
    assert foreign.bits(app.run(RunLog(FedAvg(), ledger=ledger))) == alone
    assert any("ledger could not be written" in line for line in flower_log)


def spend(client, rounds):
    number = int(client[-2:])
    return {"epsilon": rounds * (1.0 + number), "delta": 0.1 / (1 + number), "unit": "example"}


def test_accounts_are_of_the_rounds_in_which_a_client_took_part(foreign):
    ledger = foreign.Ledger()
    app = foreign.App(spoil={2: raises})
    app.run(RunLog(FedAvg(), ledger=ledger, spent=spend), rounds=2)
    accounts = ledger.named("spent")
    assert [(r, c, a["rounds"], a["epsilon"]) for r, c, a in accounts] == [
        (1, "client-00", 1, 1.0), (1, "client-01", 1, 2.0),
        (2, "client-00", 2, 2.0), (2, "client-01", 2, 4.0),
    ]  # fmt: skip
    rows = [values for _, values in ledger.named("round_done")]
    # The largest of each holds for everybody.
    assert [(row["epsilon"], row["delta"]) for row in rows] == [(2.0, 0.1), (4.0, 0.1)]


def test_a_sampled_client_spends_only_when_it_trains(foreign):
    ledger = foreign.Ledger()
    plain = FedAvg(fraction_train=0.34, min_train_nodes=1)
    foreign.App().run(RunLog(plain, ledger=ledger, spent=spend), rounds=5)
    seen = {}
    for _, client, account in ledger.named("spent"):
        seen[client] = seen.get(client, 0) + 1
        assert account["rounds"] == seen[client]
    assert sum(seen.values()) == 5
    assert len(seen) > 1
    rows = [values["epsilon"] for _, values in ledger.named("round_done")]
    assert rows == sorted(rows)
    assert rows[-1] == max(spend(client, rounds)["epsilon"] for client, rounds in seen.items())


def test_one_client_without_account_leaves_the_round_without(foreign):
    ledger = foreign.Ledger()

    def partly(client, rounds):
        return None if client == "client-01" else spend(client, rounds)

    foreign.App().run(RunLog(FedAvg(), ledger=ledger, spent=partly), rounds=1)
    assert [client for _, client, _ in ledger.named("spent")] == ["client-00", "client-02"]
    [(_, values)] = ledger.named("round_done")
    assert "epsilon" not in values


def test_an_accountant_that_fails_does_not_change_training(foreign, flower_log):
    def broken(client, rounds):
        raise ArithmeticError("overflow")

    plain = foreign.App().run(FedAvg())
    ledger = foreign.Ledger()
    found = foreign.App().run(RunLog(FedAvg(), ledger=ledger, spent=broken))
    assert foreign.bits(found) == foreign.bits(plain)
    assert "epsilon" not in ledger.named("round_done")[0][1]
    assert any("no privacy account: ArithmeticError: overflow" in line for line in flower_log)


def test_rounds_go_on_from_an_earlier_run(foreign):
    ledger, seen = foreign.Ledger(), []
    app = foreign.App()
    strategy = RunLog(FedAvg(), ledger=ledger, spent=lambda client, rounds: {"n": rounds})
    strategy.resume(3, {"client-00": 2})

    def evaluate(server_round, arrays):
        seen.append(server_round)
        return MetricRecord({"loss": 0.5})

    app.run(strategy, rounds=5, evaluate_fn=evaluate)
    assert seen == [4, 5]
    assert sorted({turn for turn, _ in app.loaded}) == [4, 5]
    assert [row[0] for row in ledger.named("round_done")] == [4, 5]
    assert sorted({row[0] for row in ledger.named("evaluated")}) == [4, 5]
    assert strategy.took_part == {"client-00": 4, "client-01": 2, "client-02": 2}
    assert ledger.named("close") == [("completed", "")]


def test_training_ends_when_it_is_told_to(foreign):
    ledger, rows = foreign.Ledger(), []

    def goes_on(server_round, arrays, row):
        rows.append((server_round, row["loss"]))
        return server_round < 2

    strategy = RunLog(FedAvg(), ledger=ledger, goes_on=goes_on)
    app = foreign.App()
    result = app.run(strategy, rounds=9, evaluate_fn=evaluate)
    assert rows == [(1, 1.5), (2, 2.5)]
    assert max(turn for turn, _ in app.loaded) == 2
    two = foreign.App().run(FedAvg(), rounds=2).arrays
    assert {n: a.data for n, a in result.arrays.items()} == {n: a.data for n, a in two.items()}
    assert ledger.named("close") == [("completed", "")]


def client_says(**figures):
    def change(message, context, call_next):
        reply = call_next(message, context)
        if message.metadata.message_type == MessageType.EVALUATE:
            partition = int(context.node_config["partition-id"])
            for name, values in figures.items():
                reply.content["metrics"][name.replace("_", "-")] = values[partition]
        return reply

    return (change,)


def test_clients_figures_are_written_and_their_auc_averaged(foreign):
    ledger = foreign.Ledger()
    app = foreign.App(
        mods=client_says(auc=[0.5, 0.9, math.nan], auc_left_out=[0, 1, 2], num_examples=[1, 3, 4])
    )
    app.run(RunLog(FedAvg(), ledger=ledger), rounds=1)
    rows = ledger.named("evaluated")
    assert [(number, client, row["images"]) for number, client, row in rows] == [
        (1, "client-00", 1), (1, "client-01", 3), (1, "client-02", 4)
    ]  # fmt: skip
    assert [row["auc_left_out"] for *_, row in rows] == [0, 1, 2]
    assert all(row["loss"] > 0 for *_, row in rows)
    [(_, values)] = ledger.named("round_done")
    assert values["client_auc"] == pytest.approx((0.5 + 3 * 0.9) / 4)


def test_a_client_without_images_has_no_figures_and_no_weight(foreign):
    ledger = foreign.Ledger()
    mods = client_says(num_examples=[0, 2, 2], loss=[0.0, 1.0, 3.0], auc=[0.0, 0.7, 0.8])
    foreign.App(mods=mods).run(RunLog(FedAvg(), ledger=ledger), rounds=1)
    _, _, row = ledger.named("evaluated")[0]
    assert (row["images"], row["loss"], row["auc"]) == (0, None, None)
    [(_, values)] = ledger.named("round_done")
    assert values["client_auc"] == pytest.approx(0.75)
    assert values["client_loss"] == pytest.approx(2.0)
