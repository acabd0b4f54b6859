"""Flower's own examples, from a checkout that the tester gives, plain and wrapped.

``pytest tests/integration/test_examples.py --examples FLOWER/examples``. Data are synthetic
(:mod:`helpers.stand_ins`); strategies, models, training and files are the examples' own.
"""

from __future__ import annotations

import importlib
import json
import random
import re
import sys
import tomllib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from flwr.app import Context, RecordDict
from flwr.common import typing

from adversary.attacks import DLG
from adversary.observation.observation import Observation
from fl_sim.engines.in_process import InProcessGrid
from helpers import stand_ins
from strategies import curious

CLIENTS = 4


@dataclass(frozen=True)
class Example:
    """An app of Flower's, and what is known of its training.

    Parameters
    ----------
    package, strategy, model : str
        Its package, the name of the strategy in server_app, and what makes its model in task.
    image_shape, normalise
        As :func:`strategies.curious` wants them.
    config : dict
        Changes of its run config.
    told : dict
        What its server knows of the training.
    expected : tuple of int
        Steps and images of every update.
    """

    package: str
    strategy: str
    model: str
    image_shape: tuple[int, int, int]
    config: dict[str, Any]
    expected: tuple[int, int]
    normalise: Any = None
    told: dict[str, Any] = field(default_factory=dict)


EXAMPLES = {
    "quickstart-pytorch": Example(
        package="pytorchexample",
        strategy="FedAvg",
        model="Net",
        image_shape=(3, 32, 32),
        normalise=(0.5, 0.5),
        config={"num-server-rounds": 2, "batch-size": 8},
        told={"batch_size": 8},
        expected=(2, 16),  # 80 images, four clients, a fifth held out
    ),
    "advanced-pytorch": Example(
        package="pytorch_example",
        strategy="CustomFedAvg",
        model="Net",
        image_shape=(1, 28, 28),
        normalise=(0.1307, 0.3081),
        config={"num-server-rounds": 2, "fraction-train": 0.5},
        told={"batch_size": 32},
        expected=(1, 16),
    ),
    "quickstart-monai": Example(
        package="monaiexample",
        strategy="FedAvg",
        model="load_model",
        image_shape=(1, 64, 64),
        config={"num-server-rounds": 2, "batch-size": 4, "fraction-train": 1.0},
        told={"batch_size": 4},
        expected=(3, 12),  # 60 images; its num-examples counts batches
    ),
}


@pytest.fixture
def example(request, examples, monkeypatch, tmp_path):
    found = EXAMPLES[request.param]
    folder = examples / request.param
    if not folder.is_dir():
        pytest.skip(f"{examples} has no {request.param}")
    monkeypatch.syspath_prepend(folder)
    if not hasattr(typing, "UserConfig"):  # examples of older checkouts name it
        monkeypatch.setattr(typing, "UserConfig", dict, raising=False)
    for name, module in stand_ins.stand_ins().items():
        monkeypatch.setitem(sys.modules, name, module)
    yield folder, found
    stand_ins.forget(found.package)


def run(folder, example, where, monkeypatch, *, wrapped):
    """Run an example in a folder of its own; return the observations of a wrapped one."""
    where.mkdir()
    stand_ins.write_mednist(where)
    monkeypatch.chdir(where)
    stand_ins.forget(example.package)
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    config = project["tool"]["flwr"]["app"]["config"] | example.config
    server, client, task = (
        importlib.import_module(f"{example.package}.{part}")
        for part in ("server_app", "client_app", "task")
    )
    own = getattr(server, example.strategy)
    if wrapped:

        def around(*args, **kwargs):
            with torch.random.fork_rng():  # a second model draws weights, in the clients' process
                model = getattr(task, example.model)()
            return curious(
                *(own(*args, **kwargs), model),
                image_shape=example.image_shape,
                normalise=example.normalise,
                attacks=[DLG(iterations=1)],
                record=True,
                **example.told,
            )

        monkeypatch.setattr(server, example.strategy, around)
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    grid = InProcessGrid(client.app, CLIENTS, config)
    server.app(grid, Context(1, 0, {}, RecordDict(), config))


def files(where):
    """Return what an example wrote, by name without its time; neither data nor our report."""
    found = {}
    for path in where.rglob("*"):
        name = path.relative_to(where).as_posix()
        if path.is_file() and not name.startswith(("MedNIST", "results/curious")):
            content = (
                json.loads(path.read_text())
                if path.suffix == ".json"
                else torch.load(path)
                if path.suffix in {".pt", ".pth"}
                else path.read_bytes()
            )
            found[re.sub(r"\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d", "TIME", name)] = content
    return found


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.mark.parametrize("example", EXAMPLES, indirect=True)
def test_an_example_runs_wrapped_as_it_does_plain(example, monkeypatch, tmp_path):
    folder, app = example
    with monkeypatch.context() as patch:
        run(folder, app, tmp_path / "plain", patch, wrapped=False)
    with monkeypatch.context() as patch:
        run(folder, app, tmp_path / "wrapped", patch, wrapped=True)
    plain, wrapped = files(tmp_path / "plain"), files(tmp_path / "wrapped")
    assert "final_model.pt" in plain
    assert same(plain, wrapped), (sorted(plain), sorted(wrapped))
    if app.strategy == "CustomFedAvg":
        assert "outputs/TIME/results.json" in wrapped
        assert any("model_state_acc" in name for name in wrapped)
    report = tmp_path / "wrapped" / "results" / "curious"
    assert (report / "report.html").is_file()
    rows = pd.read_csv(report / "leakage.csv")
    assert (rows["status"] == "ok").all()
    updates = [Observation.load(path) for path in (report / "updates").rglob("*.safetensors")
               if path.parent.name != "sent"]  # fmt: skip
    assert {(one.steps, one.images) for one in updates} == {app.expected}
    assert set(rows.groupby(["round", "client"]).size()) == {app.expected[1]}
    counts_batches = rows["flags"].fillna("").str.contains("recipe-contradicted")
    assert counts_batches.all() == (app.package == "monaiexample")
