from __future__ import annotations

from flwr.app import Message, MessageType, RecordDict
from flwr.clientapp import ClientApp

from fl_sim.engines.in_process import InProcessGrid
from strategies.grids.polling import PollingGrid

app = ClientApp()


@app.train()
def train(message, context):
    return Message(RecordDict(), reply_to=message)


class Slow(InProcessGrid):
    """Has one more reply each time it is asked; the last never comes."""

    def pull_messages(self, message_ids):
        return super().pull_messages(sorted(message_ids)[:1])


class Silent(InProcessGrid):
    def pull_messages(self, message_ids):
        return []


def sent(nodes=3):
    return [Message(RecordDict(), 1000 + node, MessageType.TRAIN) for node in range(nodes)]


def test_every_reply_comes_once_and_the_server_is_asked_between(monkeypatch):
    monkeypatch.setattr("strategies.grids.polling.POLL_SECONDS", 0)
    looks = []
    grid = PollingGrid(Slow(app, 3), lambda: looks.append(1))
    replies = list(grid.send_and_receive(sent()))
    assert sorted(reply.metadata.src_node_id for reply in replies) == [1000, 1001, 1002]
    assert len(looks) == 3


def test_it_gives_up_when_the_time_is_over():
    assert (
        list(PollingGrid(Silent(app, 2), lambda: None).send_and_receive(sent(2), timeout=0.2)) == []
    )


def test_nothing_sent_is_nothing_awaited():
    assert list(PollingGrid(Silent(app, 2), lambda: None).send_and_receive([])) == []
