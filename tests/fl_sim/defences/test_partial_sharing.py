"""What is kept never leaves, stays with its client, and is what the client evaluates with."""

from __future__ import annotations

import copy
import csv
import math

import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict

from adversary import ThreatModel
from adversary.observation.channel import Channel
from adversary.problem.problem import build_problem
from adversary.problem.update_models import unrolled
from fl_sim import client_app
from fl_sim.defences import DefenceError, create
from fl_sim.engines.in_process import InProcessGrid, run_in_process
from fl_sim.federation import build_federation
from fl_sim.settings.parse import flatten
from fl_sim.training.evaluation import evaluate


def of_part(part, name):
    return {
        "head": name.startswith("head."),
        "body": not name.startswith("head."),
        "batch-norm": ".bn" in name or "shortcut.1" in name,
    }[part]


@pytest.mark.parametrize("part", ["head", "body", "batch-norm"])
def test_a_part_stays_and_the_rest_leaves(part, client, seen):
    update = client(model="resnet18-sigmoid", images=2)
    defence = create("partial-sharing", {"local": part})
    observation = seen(defence, update)
    masks = defence.channel(observation).observed
    for name, value in observation.returned.items():
        kept = of_part(part, name)
        assert torch.equal(value, (update.sent if kept else update.returned)[name])
        assert (name in masks) == kept
    assert not any(mask.any() for mask in masks.values())
    threat = ThreatModel(channel=defence.channel(observation))
    problem = build_problem(observation, threat, update.model, image_shape=(1, 12, 12))
    assert not any(of_part(part, name) for name in problem.gradient)


@pytest.mark.parametrize("name", ["partial-sharing", "freezing"])
def test_a_model_without_the_part_is_one_line(name, client):
    option = {"partial-sharing": "local", "freezing": "part"}[name]
    with pytest.raises(DefenceError, match=f"^defence.{option} = 'batch-norm': th\\w+ mo"):
        create(name, {option: "batch-norm"}).model(client().model)


@pytest.mark.parametrize("part", ["head", "body"])
def test_an_attacker_that_matches_what_is_sent_sees_all(part, client, seen, psnr_of_dlg):
    update = client()
    defence = create("partial-sharing", {"local": part})
    observation = seen(defence, update)
    assert psnr_of_dlg(observation, defence.channel(observation), update) > 60
    assert psnr_of_dlg(observation, Channel(), update) < 30


@pytest.mark.parametrize("part", ["head", "body"])
def test_unrolled_steps_move_what_is_not_seen_too(part, client, seen):
    update = client(images=2, steps=3)
    defence = create("partial-sharing", {"local": part})
    observation = seen(defence, update)
    threat = ThreatModel(channel=defence.channel(observation))
    problem = build_problem(observation, threat, update.model, image_shape=(1, 12, 12))
    found = unrolled(problem, problem.parameters, update.images, problem.targets(update.labels))
    assert set(found) == set(problem.gradient) == {n for n in update.sent if not of_part(part, n)}
    for name, told in problem.gradient.items():
        assert float((found[name] - told).norm() / told.norm()) < 1e-4


def ask(grid, kind, server_round, arrays):
    """Send arrays to every client; return the contents of the replies."""
    content = RecordDict(
        {"arrays": ArrayRecord(arrays), "config": ConfigRecord({"server-round": server_round})}
    )
    messages = [Message(copy.deepcopy(content), node, kind) for node in grid.get_node_ids()]
    return [reply.content for reply in grid.send_and_receive(messages)]


def test_a_client_goes_on_with_its_own_arrays(quick):
    settings = quick(defence__name="partial-sharing", local__lr=0.5, rounds=1)
    run = build_federation(settings, 3)
    grid = InProcessGrid(client_app.app, 3, flatten(settings))
    first = run.model().state_dict()
    heads = []
    model, expected = run.model(), []
    for number in range(3):
        model.load_state_dict(first)
        for server_round in (1, 2):  # the body is sent anew, the head goes on
            body = {n: v for n, v in first.items() if not n.startswith("head.")}
            model.load_state_dict(body, strict=False)
            run.defence.train(
                model,
                run.training_inputs(server_round, number),
                run.parts[number].labels,
                run.recipe,
                run.batches(server_round, number),
                generator=torch.Generator(),
            )
        expected.append(copy.deepcopy(model.state_dict()))
    for server_round in (1, 2):
        replies = ask(grid, MessageType.TRAIN, server_round, first)
        heads = [c["arrays"].to_torch_state_dict() for c in replies]
    for got, wanted in zip(heads, expected, strict=True):
        assert all(
            torch.equal(got[n], (first if n.startswith("head.") else wanted)[n]) for n in got
        )
    kept = [context.state["personal"] for context in grid._contexts.values()]
    for own, wanted in zip(kept, expected, strict=True):
        assert set(own) == {"head.weight", "head.bias"}
        assert all(torch.equal(v, wanted[n]) for n, v in own.to_torch_state_dict().items())

    held_out = run.evaluation_set()
    told = [c["metrics"] for c in ask(grid, MessageType.EVALUATE, 2, first)]
    for metrics, wanted in zip(told, expected, strict=True):
        body = {n: v for n, v in first.items() if not n.startswith("head.")}
        model.load_state_dict({**wanted, **body})
        found = evaluate(
            model, held_out.tensor(range(len(held_out))), held_out.labels, "cross-entropy",
            device="cpu",
        )  # fmt: skip
        assert metrics["held-out-loss"] == pytest.approx(found.loss, rel=1e-6)
        assert metrics["held-out-auc"] == pytest.approx(found.auc, rel=1e-6)
        assert found.loss != pytest.approx(metrics["loss"], rel=1e-6)


def test_rounds_tell_the_mean_over_clients(quick, tmp_path):
    run_in_process(quick(defence__name="partial-sharing", adversary__enabled=False))
    with (tmp_path / "run" / "rounds.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    for row in rows:
        assert math.isfinite(float(row["loss"]))
        assert 0 <= float(row["auc"]) <= 1
        assert row["loss"] != row["client_loss"]


def test_other_defences_keep_nothing(client):
    assert create("none").personal(client().sent) == frozenset()
