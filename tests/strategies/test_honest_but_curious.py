from __future__ import annotations

import dataclasses
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ConfigRecord, MetricRecord
from flwr.serverapp.strategy import (
    Bulyan,
    DifferentialPrivacyServerSideFixedClipping,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    FedYogi,
    Krum,
    MultiKrum,
    QFedAvg,
)

from adversary.observation.threat_model import ThreatModel
from strategies import HonestButCurious
from strategies import honest_but_curious as module
from strategies.attack_queue import Attacked, AttackQueue

STRATEGIES = {
    "fedavg": FedAvg,
    "fedprox": lambda: FedProx(proximal_mu=0.1),
    "fedavgm": lambda: FedAvgM(server_momentum=0.9),
    "fedadam": FedAdam,
    "fedadagrad": FedAdagrad,
    "fedyogi": FedYogi,
    "fedmedian": FedMedian,
    "fedtrimmedavg": FedTrimmedAvg,
    "krum": Krum,
    "multikrum": lambda: MultiKrum(num_nodes_to_select=2),
    "bulyan": Bulyan,
    "qfedavg": lambda: QFedAvg(client_learning_rate=0.1, train_loss_key="loss"),
    "sampled": lambda: FedAvg(fraction_train=0.7),
    "dp": lambda: DifferentialPrivacyServerSideFixedClipping(FedAvg(), 0.1, 0.5, 3),
}


def draws(observation):
    random.random()
    np.random.rand()  # noqa: NPY002
    torch.rand(3)


def crashes(error):
    def act(observation):
        draws(observation)
        raise error

    return act


ACTS = {
    "quiet": None,
    "draws": draws,
    "raises": crashes(ValueError("boom")),
    "memory": crashes(MemoryError()),
    "cuda memory": crashes(torch.OutOfMemoryError("CUDA out of memory")),
    "cpu memory": crashes(RuntimeError("[enforce fail] not enough memory: you tried 1 TB")),
    "tampers": lambda o: [v.zero_() for v in (*o.sent.values(), *o.returned.values())],
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_federation_is_bit_for_bit_the_same(name, foreign, recipe):
    # Flower's wrapper cannot clip integer buffers, nor q-FedAvg scale them: then there are none.
    batch_norm = name not in ("dp", "qfedavg")
    app = foreign.App(batch_norm=batch_norm)
    alone = foreign.bits(app.run(STRATEGIES[name]()))
    broken = foreign.Ledger("observed", "outcome", "unusable", "round_done", "close")
    for act, ledger in {"draws": foreign.Ledger(), "raises": broken, "tampers": None}.items():
        strategy = HonestButCurious(
            STRATEGIES[name](), foreign.Adversary(act=ACTS[act]), recipe, ledger=ledger
        )
        assert foreign.bits(app.run(strategy)) == alone


def test_what_was_sent_is_in_the_types_that_each_client_returned(foreign, recipe):
    def doubled(content):
        arrays = content["arrays"]
        arrays["fc.weight"] = Array(arrays["fc.weight"].numpy().astype(np.float64))
        return content

    adversary = foreign.Adversary()
    app = foreign.App(spoil={1: doubled})
    app.run(HonestButCurious(FedAvg(), adversary, recipe), rounds=1)
    types = []
    for seen in adversary.seen:
        assert {n: v.dtype for n, v in seen.sent.items()} == {
            n: v.dtype for n, v in seen.returned.items()
        }
        types.append(seen.sent["fc.weight"].dtype)
    assert sorted(map(str, types)) == ["torch.float32", "torch.float32", "torch.float64"]


@pytest.mark.parametrize("act", ["quiet", "memory", "cuda memory", "cpu memory"])
def test_no_kind_of_crash_reaches_the_federation(act, foreign, recipe):
    app = foreign.App()
    strategy = HonestButCurious(FedAvg(), foreign.Adversary(act=ACTS[act]), recipe)
    assert foreign.bits(app.run(strategy)) == foreign.bits(app.run(FedAvg()))


def test_a_small_difference_would_be_seen(foreign):
    first = foreign.bits(foreign.App().run(FedAvg()))
    other = foreign.App(spoil={0: lambda c: _changed(c, "fc.bias", lambda a: a + 1e-6)})
    assert foreign.bits(other.run(FedAvg())) != first


def _changed(content, name, change):
    arrays = content["arrays"]
    arrays[name] = Array(change(arrays[name].numpy()))
    return content


def test_global_random_states_stay(foreign, recipe):
    class Spy(FedAvg):
        def aggregate_train(self, server_round, replies):
            states.append(_states())
            return super().aggregate_train(server_round, replies)

        def configure_evaluate(self, *args):
            states.append(_states())
            return super().configure_evaluate(*args)

    states: list = []
    strategy = HonestButCurious(
        Spy(), foreign.Adversary(act=draws), recipe, ledger=foreign.Ledger()
    )
    foreign.App().run(strategy, rounds=1)
    assert states[0] == states[1]


def _states():
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    return random.getstate(), (name, keys.tobytes(), *rest), torch.get_rng_state().tolist()


@pytest.mark.parametrize("name", ["fedavg", "fedadam", "fedmedian", "dp"])
def test_observations_are_what_was_sent_and_returned(name, foreign, recipe):
    adversary = foreign.Adversary()
    app = foreign.App(batch_norm=name != "dp")
    app.run(HonestButCurious(STRATEGIES[name](), adversary, recipe), rounds=3)
    assert len(adversary.seen) == 9
    for seen in adversary.seen:
        turn = (seen.round, int(seen.client.removeprefix("client-")))
        for ours, theirs in ((seen.sent, app.loaded[turn]), (seen.returned, app.replied[turn])):
            assert ours.keys() == theirs.keys()
            for key, value in theirs.items():
                assert ours[key].dtype == value.dtype, key
                assert torch.equal(ours[key], value), key
        assert seen.num_examples == len(foreign.own_images(turn[1])[0])
        assert seen.recipe == recipe
        seen.check()


def test_an_observation_gives_the_gradient(foreign, recipe):
    adversary = foreign.Adversary()
    app = foreign.App(batch_norm=False)
    app.run(HonestButCurious(FedAvg(), adversary, recipe), rounds=1)
    seen = adversary.seen[1]
    net = app.net()
    images, labels = foreign.own_images(1)
    torch.nn.functional.cross_entropy(net(images), labels).backward()
    for name, parameter in net.named_parameters():
        estimate = (seen.sent[name] - seen.returned[name]) / foreign.lr
        torch.testing.assert_close(estimate, parameter.grad, atol=1e-6, rtol=1e-4)


def test_clients_are_attacked_in_the_order_of_their_names(foreign, recipe):
    class Reversed(FedAvg):
        def configure_train(self, *args):
            return sorted(super().configure_train(*args), key=lambda m: -m.metadata.dst_node_id)

    adversary, ledger = foreign.Adversary("a", "b"), foreign.Ledger()
    foreign.App().run(HonestButCurious(Reversed(), adversary, recipe, ledger=ledger), rounds=2)
    assert ledger.named("outcome") == [
        (r, f"client-{c:02d}", a) for r in (1, 2) for c in range(3) for a in "ab"
    ]


def test_given_names_and_threat_are_used(foreign, recipe):
    adversary = foreign.Adversary()
    threat = ThreatModel(labels=torch.tensor([1]))
    names = {1000: "north", 1001: "south", 1002: "east"}
    strategy = HonestButCurious(
        FedAvg(), adversary, recipe, client_names=names, threat=lambda o: threat
    )
    foreign.App().run(strategy, rounds=1)
    assert [o.client for o in adversary.seen] == ["east", "north", "south"]
    assert all(t is threat for t in adversary.threats)


@pytest.mark.parametrize("act", ["raises", "memory", "cuda memory", "cpu memory"])
def test_a_crash_is_told_in_one_line_and_written_down(act, foreign, recipe, flower_log):
    ledger = foreign.Ledger()
    strategy = HonestButCurious(FedAvg(), foreign.Adversary(act=ACTS[act]), recipe, ledger=ledger)
    foreign.App().run(strategy, rounds=1)
    unusable = ledger.named("unusable")
    assert [entry[:2] for entry in unusable] == [(1, f"client-{c:02d}") for c in range(3)]
    assert all(("boom" in e[2]) if act == "raises" else ("memory" in e[2]) for e in unusable)
    lines = [line for line in flower_log if "not attacked" in line]
    assert len(lines) == 3
    assert all("\n" not in line for line in lines)
    assert lines[0].startswith("client-00 in round 1: ")


def test_a_failing_grant_is_no_failure_of_training(foreign, recipe):
    def threat(observation):
        raise KeyError("labels")

    ledger = foreign.Ledger()
    strategy = HonestButCurious(FedAvg(), foreign.Adversary(), recipe, ledger=ledger, threat=threat)
    foreign.App().run(strategy, rounds=1)
    assert len(ledger.named("unusable")) == 3
    assert ledger.named("close") == [("completed", "")]


def test_ctrl_c_in_an_attack_stops_the_run(foreign, recipe):
    ledger = foreign.Ledger()
    adversary = foreign.Adversary(act=crashes(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        foreign.App().run(HonestButCurious(FedAvg(), adversary, recipe, ledger=ledger))
    assert ledger.named("close") == [("stopped", "")]


def test_replies_that_show_nothing_are_not_attacked(foreign, recipe):
    def raises(content):
        raise RuntimeError("disk broke")

    adversary, ledger = foreign.Adversary(), foreign.Ledger()
    app = foreign.App(spoil={0: raises, 2: lambda c: _changed(c, "fc.bias", lambda a: a * np.nan)})
    app.run(HonestButCurious(FedAvg(), adversary, recipe, ledger=ledger), rounds=1)
    assert [o.client for o in adversary.seen] == ["client-01"]
    reasons = {client: reason for _, client, reason in ledger.named("unusable")}
    assert "disk broke" in reasons["client-00"]
    assert "fc.bias" in reasons["client-02"]


def test_each_attack_is_told_with_position_and_time_left(foreign, recipe):
    told: list[str] = []
    strategy = HonestButCurious(
        FedAvg(), foreign.Adversary("dlg", "ing"), recipe,
        ledger=foreign.Ledger(verdict="Open · 24.1 dB"), tell=told.append,
    )  # fmt: skip
    foreign.App().run(strategy, rounds=2)
    assert len(told) == 12
    assert told[0].startswith("attack 1/12 · round 1 · client-00 · dlg · Open · 24.1 dB · ")
    assert told[0].endswith("s left")
    assert told[-1] == "attack 12/12 · round 2 · client-02 · ing · Open · 24.1 dB"


class Later(AttackQueue):
    """Has room for two updates, and attacks nothing before it is waited for."""

    def __init__(self, adversary):
        self.adversary = adversary
        self.waiting, self.longest = [], 0

    def submit(self, observation):
        self.waiting.append(observation)
        self.longest = max(self.longest, self.pending)

    def results(self, timeout=0.0):
        if timeout and self.waiting:
            update = self.waiting.pop(0)
            [found] = self.adversary.run(update, ThreatModel(), progress=lambda *_: None)
            yield Attacked(update, found)

    @property
    def pending(self):
        return len(self.waiting)

    def flush(self):
        pass

    @property
    def full(self):
        return len(self.waiting) >= 2


def test_a_queue_that_is_full_holds_training_up_and_none_is_left_at_the_end(foreign, recipe):
    told: list[str] = []
    adversary, ledger = foreign.Adversary("dlg"), foreign.Ledger()
    queue = Later(adversary)
    strategy = HonestButCurious(
        FedAvg(), adversary, recipe, ledger=ledger, queue=queue, tell=told.append
    )
    foreign.App().run(strategy, rounds=2)
    assert queue.longest == 2
    assert told[0] == "training waits: 2 updates are left to attack"
    assert [entry[:2] for entry in ledger.named("outcome")] == [
        (round, f"client-{client:02d}") for round in (1, 2) for client in range(3)
    ]
    attacks = [line for line in told if line.startswith("attack ")]
    assert [line.split(" · ")[0] for line in attacks] == [f"attack {n}/6" for n in range(1, 7)]
    assert ledger.named("close") == [("completed", "")]


def test_a_queue_that_breaks_is_no_failure_of_training(foreign, recipe):
    class Broken(Later):
        def submit(self, observation):
            raise OSError("no space left")

    adversary, ledger = foreign.Adversary("dlg"), foreign.Ledger()
    strategy = HonestButCurious(FedAvg(), adversary, recipe, ledger=ledger, queue=Broken(adversary))
    foreign.App().run(strategy, rounds=1)
    assert all("no space left" in entry[2] for entry in ledger.named("unusable"))
    assert len(ledger.named("unusable")) == 3


def test_the_total_counts_failed_clients_out(foreign, recipe):
    def raises(content):
        raise RuntimeError("no")

    told: list[str] = []
    strategy = HonestButCurious(FedAvg(), foreign.Adversary(), recipe, tell=told.append)
    foreign.App(spoil={0: raises}).run(strategy, rounds=2)
    assert [line.split(" · ")[0] for line in told] == [
        "attack 1/5", "attack 2/5", "attack 3/4", "attack 4/4",
    ]  # fmt: skip


def test_what_waits_since_an_earlier_run_is_in_the_total(foreign, recipe):
    told: list[str] = []
    strategy = HonestButCurious(FedAvg(), foreign.Adversary(), recipe, tell=told.append)
    strategy.expect_waiting([("client-00", "fake"), ("client-02", "fake")])
    foreign.App().run(strategy, rounds=1)
    assert told[0].startswith("attack 1/5 · round 1 · client-00 · fake · ")
    assert told[0].endswith("s left")


def test_a_long_attack_tells_how_far_it_is(foreign, recipe, monkeypatch):
    monkeypatch.setattr(module, "REPORT_SECONDS", 0.0)
    told: list[str] = []
    strategy = HonestButCurious(FedAvg(), foreign.Adversary(), recipe, tell=told.append)
    foreign.App().run(strategy, rounds=1)
    assert told[0] == "attack 1/3 · round 1 · client-00 · fake · 50%"
    assert told[1].startswith("attack 1/3 · round 1 · client-00 · fake · done")


def test_the_readme_s_lines_in_a_foreign_app(foreign, tmp_path: Path, monkeypatch):
    def evaluate(server_round, arrays):
        return MetricRecord({"loss": 1.0 / (1 + server_round), "auc": 0.5})

    app = foreign.App(batch_norm=False)
    alone = foreign.bits(app.run(FedAvg(), evaluate_fn=evaluate))

    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (lines,) = (b for b in re.findall(r"```python\n(.*?)```", readme, re.S) if "curious" in b)
    lines = lines.rstrip()
    for said, here in {"28, 28)": "8, 8)", "batch_size=32)": "batch_size=32, seconds=0.5)"}.items():
        assert said in lines
        lines = lines.replace(said, here)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"Net": app.net}
    exec(lines, names)
    strategy = names["strategy"]
    assert foreign.bits(app.run(strategy, evaluate_fn=evaluate)) == alone

    ledger = strategy.ledger
    assert ledger.errors == []
    leakage, rounds = ledger.folder.leakage(), ledger.folder.rounds()
    images = 2 + 3 + 4
    assert list(leakage["round"]) == [1] * images + [2] * images
    assert set(leakage["status"]) == {"ok"}
    assert leakage["score"].notna().all()
    assert list(rounds["loss"]) == [1 / 2, 1 / 3]
    assert list(rounds["clients_failed"]) == [0, 0]
    assert rounds["client_loss"].notna().all()
    assert ledger.folder.info()["status"] == "completed"
    assert (tmp_path / "results" / "curious" / "report.html").read_text().startswith("<!")


def test_only_the_selected_are_attacked_and_training_stays_the_same(foreign, recipe):
    asked: list = []

    def select(server_round, clients):
        asked.append(tuple(clients))
        random.random()
        return clients[1:] if server_round % 2 else []

    adversary, told = foreign.Adversary("dlg", "ing"), []
    strategy = HonestButCurious(FedAvg(), adversary, recipe, select=select, tell=told.append)
    app = foreign.App()
    alone = foreign.bits(app.run(FedAvg(), rounds=3))
    assert foreign.bits(app.run(strategy, rounds=3)) == alone
    assert [(o.round, o.client) for o in adversary.seen] == [
        (r, f"client-0{c}") for r in (1, 3) for c in (1, 2)
    ]
    assert set(asked) == {("client-00", "client-01", "client-02")}
    assert [line.split(" · ")[0] for line in told] == [f"attack {n}/8" for n in range(1, 9)]


def test_a_failing_selection_is_no_failure_of_training(foreign, recipe):
    def select(server_round, clients):
        raise KeyError("who")

    ledger, app = foreign.Ledger(), foreign.App()
    strategy = HonestButCurious(FedAvg(), foreign.Adversary(), recipe, ledger=ledger, select=select)
    assert foreign.bits(app.run(strategy)) == foreign.bits(app.run(FedAvg()))
    assert [entry[:2] for entry in ledger.named("unusable")] == [(1, "-"), (2, "-")]
    assert ledger.named("close") == [("completed", "")]


def test_what_the_server_tells_clients_of_their_training_is_in_the_recipe(foreign, recipe):
    adversary = foreign.Adversary()
    config = ConfigRecord({"lr": 0.25, "epochs": 3})
    strategy = HonestButCurious(FedProx(proximal_mu=0.5), adversary, recipe)
    foreign.App().run(strategy, rounds=1, train_config=config)
    expected = dataclasses.replace(recipe, lr=0.25, proximal_mu=0.5)
    assert {seen.recipe for seen in adversary.seen} == {expected}
