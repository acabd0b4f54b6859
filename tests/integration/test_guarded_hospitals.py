"""Two hospitals, each with a guard: one with a single X-ray, one with 32.

Blurring is tried in this process, refusing by a real deployment (test_deployment.py).
"""

import importlib
import json
from pathlib import Path

import pytest
from flwr.app import Context, RecordDict

from adversary.report import guard_page
from adversary.storage import csv_table
from fl_sim.engines.in_process import InProcessGrid
from helpers import stand_ins

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "guarded_hospitals"
MODULES = ("client", "server", "hospital", "net")


@pytest.fixture
def in_process(monkeypatch):
    """Return what runs the example without Flower's processes."""

    def run(config):
        monkeypatch.syspath_prepend(EXAMPLE)
        client, server = (importlib.import_module(name).app for name in ("client", "server"))
        server(InProcessGrid(client, 2, config), Context(1, 0, {}, RecordDict(), config))

    yield run
    for name in MODULES:
        stand_ins.forget(name)


def test_the_single_image_does_not_leave_and_the_federation_goes_on(in_process, tmp_path):
    out = tmp_path / "rounds.json"
    in_process(
        {"out": str(out), "folder": str(tmp_path), "rounds": 1, "action": "blur", "seconds": 300.0}
    )
    [found] = json.loads(out.read_text())
    tables = [
        csv_table.read(tmp_path / f"node-{node}" / "guard.csv", guard_page.TABLE)
        for node in range(2)
    ]
    small, large = (table.to_dict("records")[0] for table in tables)
    assert large["decision"] == "send"
    assert small["decision"] == "blur"
    assert small["psnr"] > 40
    assert small["images"] == 1
    assert found == {"came": 2, "told": [], "noise": [small["noise"]]}
    assert small["psnr_after"] <= 28
    assert "withheld" in (tmp_path / "node-0" / "guard.html").read_text()
