"""Two hospitals in a real simulation, each with a guard: one with a single X-ray, one with 32."""

import json
from pathlib import Path

import pytest

from adversary.report import guard_page
from adversary.storage import csv_table
from fl_sim.engines.flower import run_app
from strategies.mods.leakage_guard.mod import WITHHELD

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "guarded_hospitals"


@pytest.mark.slow
@pytest.mark.parametrize("action", ["refuse", "blur"])
def test_the_single_image_does_not_leave_and_the_federation_goes_on(action, tmp_path):
    out = tmp_path / "rounds.json"
    config = {
        "out": str(out), "folder": str(tmp_path), "rounds": 1, "action": action, "seconds": 300.0,
    }  # fmt: skip
    status = run_app(EXAMPLE, config, supernodes=2, log=tmp_path / "flower.log")
    assert status.completed, (tmp_path / "flower.log").read_text()
    [found] = json.loads(out.read_text())
    tables = [
        csv_table.read(tmp_path / f"node-{node}" / "guard.csv", guard_page.TABLE)
        for node in range(2)
    ]
    small, large = (table.to_dict("records")[0] for table in tables)
    assert large["decision"] == "send"
    assert small["decision"] == action
    assert small["psnr"] > 40
    assert small["images"] == 1
    if action == "refuse":
        assert found == {"came": 1, "told": [WITHHELD], "noise": []}
    else:
        assert found == {"came": 2, "told": [], "noise": [small["noise"]]}
        assert small["psnr_after"] <= 28
    assert "withheld" in (tmp_path / "node-0" / "guard.html").read_text()
