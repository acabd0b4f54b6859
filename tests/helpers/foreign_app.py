"""A foreign Flower app: its own model, its own data, nothing of fl_sim in it."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import Mod
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy
from torch import nn
from torch.nn import functional

from adversary.common.results import AttackResult, Reconstruction
from adversary.observation.observation import Observation
from adversary.observation.recipe import TrainingRecipe
from fl_sim.engines.in_process import InProcessGrid

LR = 0.1
Spoil = Callable[[RecordDict], RecordDict]


class Net(nn.Module):
    """A tiny convolutional network; with batch normalisation it has an integer buffer."""

    def __init__(self, *, batch_norm: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, stride=2)
        self.norm = nn.BatchNorm2d(3) if batch_norm else nn.Identity()
        self.fc = nn.Linear(3 * 3 * 3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.sigmoid(self.norm(self.conv(x))).flatten(1))


def own_images(partition: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(partition)
    count = 2 + partition  # so that clients differ in weight
    images = torch.rand(count, 1, 8, 8, generator=draw)
    return images, torch.randint(2, (count,), generator=draw)


@dataclass
class ForeignApp:
    """Three clients, each of which may spoil its reply, and what each loaded in each round."""

    batch_norm: bool = True
    spoil: Mapping[int, Spoil] = field(default_factory=dict)
    loaded: dict[tuple[int, int], dict[str, torch.Tensor]] = field(default_factory=dict)
    replied: dict[tuple[int, int], dict[str, torch.Tensor]] = field(default_factory=dict)
    clients: int = 3
    mods: tuple[Mod, ...] = ()

    def net(self) -> Net:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return Net(batch_norm=self.batch_norm)

    def client_app(self) -> ClientApp:
        app = ClientApp(mods=list(self.mods))

        @app.train()
        def train(message: Message, context: Context) -> Message:
            partition = int(context.node_config["partition-id"])
            turn = (int(message.content["config"]["server-round"]), partition)
            net = self.net()
            net.load_state_dict(message.content["arrays"].to_torch_state_dict())
            self.loaded[turn] = {k: v.clone() for k, v in net.state_dict().items()}
            images, labels = own_images(partition)
            loss = functional.cross_entropy(net(images), labels)
            loss.backward()
            torch.optim.SGD(net.parameters(), lr=LR).step()
            self.replied[turn] = {k: v.clone() for k, v in net.state_dict().items()}
            metrics = MetricRecord({"loss": loss.item(), "num-examples": len(images)})
            content = RecordDict({"arrays": ArrayRecord(net.state_dict()), "metrics": metrics})
            return Message(self.spoil.get(partition, lambda c: c)(content), reply_to=message)

        @app.evaluate()
        def evaluate(message: Message, context: Context) -> Message:
            net = self.net().eval()
            net.load_state_dict(message.content["arrays"].to_torch_state_dict())
            images, labels = own_images(int(context.node_config["partition-id"]))
            with torch.no_grad():
                loss = functional.cross_entropy(net(images), labels)
            metrics = MetricRecord({"loss": float(loss), "num-examples": len(images)})
            return Message(RecordDict({"metrics": metrics}), reply_to=message)

        return app

    def run(
        self,
        strategy: Strategy,
        *,
        rounds: int = 2,
        through: Callable[[Grid], Grid] = lambda grid: grid,
        **start: Any,
    ) -> Result:
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002 (Flower draws its noise from there)
        torch.manual_seed(1)
        grid = through(InProcessGrid(self.client_app(), self.clients))
        arrays = ArrayRecord(self.net().state_dict())
        return strategy.start(grid, arrays, num_rounds=rounds, **start)


def bits(result: Result) -> dict[str, Any]:
    """Return all that a run gave, arrays as bytes."""
    return {
        "arrays": {name: (a.dtype, a.shape, a.data) for name, a in result.arrays.items()},
        "train": {r: dict(m) for r, m in result.train_metrics_clientapp.items()},
        "evaluate": {r: dict(m) for r, m in result.evaluate_metrics_clientapp.items()},
        "server": {r: dict(m) for r, m in result.evaluate_metrics_serverapp.items()},
    }


class FakeAdversary:
    """Has attacks by name, sees every observation, and does what it is told on each."""

    def __init__(self, *attacks: str, act: Callable[[Observation], None] | None = None) -> None:
        self.attacks = [SimpleNamespace(name=name) for name in attacks or ("fake",)]
        self.act = act
        self.seen: list[Observation] = []
        self.threats: list[Any] = []

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(attack.name for attack in self.attacks)

    def run(
        self, observation: Observation, threat: Any, *, progress: Any = None
    ) -> Iterator[AttackResult]:
        self.seen.append(observation)
        self.threats.append(threat)
        for attack in self.attacks:
            progress(attack.name, 0.5)
            if self.act:
                self.act(observation)
            found = Reconstruction(
                images=torch.zeros(1, 1, 8, 8), labels=torch.zeros(1), score=0.0, seconds=0.0,
                evaluations=1,
            )  # fmt: skip
            yield AttackResult(attack=attack.name, seconds=0.0, reconstruction=found)


class FakeLedger:
    """Remembers its entries; its methods named in ``broken`` raise."""

    def __init__(self, *broken: str, verdict: str | None = None) -> None:
        self.entries: list[tuple[Any, ...]] = []
        self.errors: list[str] = []
        self.broken = broken
        self.verdict = verdict

    def _enter(self, name: str, *values: Any) -> None:
        self.entries.append((name, *values))
        random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
        if name in self.broken:
            raise OSError("no space left on device")

    def record_observation(self, observation: Observation) -> None:
        self._enter("observed", observation.round, observation.client)

    def record_fault(self, round: int, client: str, reason: str) -> None:
        self._enter("unusable", round, client, reason)

    def record_result(self, observation: Observation, outcome: AttackResult) -> str | None:
        self._enter("outcome", observation.round, observation.client, outcome.attack)
        return self.verdict

    def record_privacy(self, round: int, client: str, **account: Any) -> None:
        self._enter("spent", round, client, account)

    def record_evaluation(self, round: int, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            self._enter("evaluated", round, row["client"], row)

    def round_done(self, round: int, **values: Any) -> None:
        self._enter("round_done", round, values)

    def close(self, status: str, reason: str = "") -> None:
        self._enter("close", status, reason)

    def named(self, name: str) -> list[tuple[Any, ...]]:
        return [entry[1:] for entry in self.entries if entry[0] == name]


@pytest.fixture
def recipe() -> TrainingRecipe:
    return TrainingRecipe(lr=LR, batch_size=8)


@pytest.fixture
def flower_log() -> Iterator[list[str]]:
    """What Flower's log says, line by line."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler, logger = Keep(), logging.getLogger("flwr")
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


@pytest.fixture
def foreign() -> SimpleNamespace:
    """The parts of this module, which tests cannot import."""
    return SimpleNamespace(
        App=ForeignApp, Adversary=FakeAdversary, Ledger=FakeLedger, Net=Net, bits=bits,
        own_images=own_images, lr=LR,
        grid=lambda app: InProcessGrid(app.client_app(), app.clients),
        arrays=lambda app: ArrayRecord(app.net().state_dict()),
    )  # fmt: skip
