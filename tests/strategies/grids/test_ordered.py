from __future__ import annotations

from flwr.app import Message, MessageType, RecordDict
from flwr.clientapp import ClientApp

from fl_sim.engines.in_process import InProcessGrid
from strategies.grids.ordered import OrderedGrid

app = ClientApp()


@app.train()
def train(message, context):
    return Message(RecordDict(), reply_to=message)


class Shuffled(InProcessGrid):
    """Lists nodes and answers in another order than asked."""

    def get_node_ids(self):
        return [1002, 1000, 1003, 1001]

    def send_and_receive(self, messages, *, timeout=None):
        return list(super().send_and_receive(messages))[::-1]

    def pull_messages(self, message_ids):
        return list(super().pull_messages(message_ids))[::-1]


def nodes(replies):
    return [reply.metadata.src_node_id for reply in replies]


def test_nodes_and_replies_come_in_the_given_order():
    order = [1003, 1000, 1002, 1001]
    grid = OrderedGrid(Shuffled(app, 4), order)
    assert list(grid.get_node_ids()) == order
    sent = [Message(RecordDict(), node, MessageType.TRAIN) for node in sorted(order)]
    assert nodes(grid.send_and_receive(sent)) == order
    assert nodes(grid.pull_messages(grid.push_messages(sent))) == order


def test_nodes_that_were_not_named_or_are_gone_are_not_used():
    assert list(OrderedGrid(Shuffled(app, 4), [1001, 1000, 7]).get_node_ids()) == [1001, 1000]
