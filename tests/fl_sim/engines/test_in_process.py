from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp

from fl_sim.engines.in_process import InProcessGrid

app = ClientApp()


@app.train()
def train(message, context):
    random.random()
    torch.rand(1)
    context.state["count"] = ConfigRecord(
        {"n": int(context.state.config_records.get("count", {"n": 0})["n"]) + 1}
    )
    message.content["arrays"].clear()
    return Message(
        RecordDict(
            {
                "me": ConfigRecord(
                    {
                        "partition": context.node_config["partition-id"],
                        "of": context.node_config["num-partitions"],
                        "seen": context.state["count"]["n"],
                        "setting": context.run_config["a.b"],
                    }
                )
            }
        ),
        reply_to=message,
    )


@app.query()
def fail(message, context):
    raise ValueError(f"client {context.node_config['partition-id']} fails")


@pytest.fixture
def grid():
    return InProcessGrid(app, 3, {"a.b": 7})


def messages(grid, kind=MessageType.TRAIN):
    content = RecordDict({"arrays": ArrayRecord({"w": Array(np.ones(2))})})
    return [Message(content, node, kind) for node in grid.get_node_ids()]


def test_every_client_answers_in_the_order_asked(grid):
    replies = grid.send_and_receive(list(reversed(messages(grid))))
    told = [dict(reply.content["me"]) for reply in replies]
    assert [t["partition"] for t in told] == [2, 1, 0]
    assert {(t["of"], t["seen"], t["setting"]) for t in told} == {(3, 1, 7)}
    assert [r.metadata.src_node_id for r in replies] == list(grid.get_node_ids())[::-1]


def test_a_clients_state_stays_over_rounds(grid):
    grid.send_and_receive(messages(grid))
    assert [r.content["me"]["seen"] for r in grid.send_and_receive(messages(grid))] == [2] * 3


def test_a_client_cannot_change_what_others_are_sent(grid):
    sent = messages(grid)
    grid.send_and_receive(sent)
    assert list(sent[0].content["arrays"]) == ["w"]


def test_a_client_does_not_move_the_servers_randomness(grid):
    before = random.getstate(), torch.get_rng_state().tolist()
    grid.send_and_receive(messages(grid))
    assert (random.getstate(), torch.get_rng_state().tolist()) == before


def test_a_client_that_raises_answers_with_an_error(grid):
    replies = grid.send_and_receive(messages(grid, MessageType.QUERY))
    assert [r.has_error() for r in replies] == [True] * 3
    assert replies[1].error.code == 2
    assert replies[1].error.reason == "ValueError: client 1 fails"


def test_of_clients_that_raise_only_evaluation_is_told_here(caplog):
    grid = InProcessGrid(ClientApp(), 2)  # an app without any function
    grid.send_and_receive(messages(grid, MessageType.TRAIN))
    assert caplog.messages == []
    grid.send_and_receive(messages(grid, MessageType.EVALUATE))
    assert [line.partition(":")[0] for line in caplog.messages] == ["client-00", "client-01"]


def test_pushed_messages_are_pulled_once(grid):
    ids = grid.push_messages(messages(grid))
    assert len(set(ids)) == 3
    first = grid.pull_messages(ids[:2])
    assert [r.content["me"]["partition"] for r in first] == [0, 1]
    assert [r.content["me"]["partition"] for r in grid.pull_messages(ids)] == [2]
