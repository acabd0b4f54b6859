from __future__ import annotations

import time

import pytest
from flwr.app import Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fl_sim import client_app
from fl_sim.engines.in_process import InProcessGrid
from fl_sim.rounds import client_discovery
from fl_sim.rounds.client_discovery import ClientDiscoveryError
from fl_sim.settings.rules import SettingsError


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(client_discovery, "POLL_SECONDS", 0.001)


class Late(InProcessGrid):
    """One more node registers each time one looks; the last partitions first."""

    looked = 0

    def get_node_ids(self):
        self.looked += 1
        return list(super().get_node_ids())[::-1][: self.looked - 1]


def telling(*partitions, clients=None):
    app = ClientApp()

    @app.query()
    def tell(message, context):
        own = int(context.node_config["partition-id"])
        metrics = {"partition-id": partitions[own], "num-partitions": clients or len(partitions)}
        return Message(RecordDict({"partition": MetricRecord(metrics)}), reply_to=message)

    return app


@pytest.mark.parametrize("expected", [0, 3])
@pytest.mark.parametrize("grid", [InProcessGrid, Late])
def test_all_clients_are_found_in_the_order_of_partitions(grid, expected):
    found = client_discovery.discover_clients(grid(client_app.app, 3), expected)
    assert list(found.items()) == [(1000, 0), (1001, 1), (1002, 2)]


def test_another_number_of_clients_than_asked_for():
    with pytest.raises(SettingsError, match=r"^clients = 4: found 2 SuperNodes; must be 2 or 0 "):
        client_discovery.discover_clients(InProcessGrid(client_app.app, 2), 4)


def test_clients_that_never_come():
    with pytest.raises(ClientDiscoveryError, match="^0 of any clients came within 0.01 s$"):
        client_discovery.discover_clients(InProcessGrid(client_app.app, 0), 0, timeout=0.01)


def test_one_client_too_few():
    grid = InProcessGrid(telling(0, 1, clients=3), 2)
    with pytest.raises(ClientDiscoveryError, match="^2 of 3 clients came within 0.01 s$"):
        client_discovery.discover_clients(grid, 3, timeout=0.01)


def test_two_clients_with_the_same_data():
    grid = InProcessGrid(telling(1, 1), 2)
    with pytest.raises(
        ClientDiscoveryError, match=r"^clients have the partitions \[1, 1\]; each of 0 to"
    ):
        client_discovery.discover_clients(grid, 0)


def test_a_client_with_wrong_settings_shows_before_training():
    grid = InProcessGrid(client_app.app, 2, {"local.lr": -1.0})
    with pytest.raises(
        ClientDiscoveryError, match="a client cannot start: SettingsError: local.lr = -1"
    ):
        client_discovery.discover_clients(grid, 0)


def test_many_clients_are_asked_in_groups_and_waited_for_as_long_as_some_come(monkeypatch):
    asked, told = [], []

    class Slow(InProcessGrid):
        def send_and_receive(self, messages, *, timeout=None):
            messages = list(messages)
            asked.append(len(messages))
            time.sleep(0.02)
            return super().send_and_receive(messages)

    monkeypatch.setattr(client_discovery, "CLIENTS_PER_REQUEST", 2)
    monkeypatch.setattr(client_discovery, "REPORT_SECONDS", 0)
    grid = Slow(client_app.app, 5)
    assert len(client_discovery.discover_clients(grid, 5, timeout=0.03, tell=told.append)) == 5
    assert asked == [2, 2, 1]
    assert told == [f"{count} of 5 clients are there" for count in (2, 4, 5)]
