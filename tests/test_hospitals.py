"""The scenarios' rows say what a run's folder says, and their page what the rows say."""

from __future__ import annotations

import pytest

from adversary.storage.run_folder import RunFolder
from benchmarks import common, hospitals
from benchmarks.tables import hospitals as table
from benchmarks.tables import rows
from fl_sim.engines.in_process import run_in_process
from fl_sim.settings.parse import parse

SMALL = {
    "clients": 2, "rounds": 1, "model.name": "lenet", "data.image-size": 16,
    "adversary.attack": "dlg", "adversary.options": "dlg.iterations=3",
    "adversary.clients": 1, "adversary.bounds": "off", "adversary.identify": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    place = tmp_path_factory.mktemp("hospitals") / "run"
    run_in_process(parse({**SMALL, "out": str(place)}))
    return hospitals.row("hospital", RunFolder.open(place)), RunFolder.open(place)


def test_a_row_has_the_figures_of_the_folder(made):
    row, folder = made
    leakage, [update] = folder.leakage(), row["updates"]
    assert (update["client"], update["round"]) == (leakage["client"][0], 1)
    assert update["psnr_worst"] == leakage["psnr"].max()
    assert update["psnr"] == pytest.approx(leakage["psnr"].mean())
    assert row["images"].keys() == set(folder.clients()["client"])
    assert row["rounds"] == 1
    assert row["conclusion"]
    assert row["named"] == []


def test_the_page_shows_each_update_and_a_failed_attack_is_open(made):
    row, _ = made
    failed = row["updates"][0] | {"attacked": False, "verdict": "unknown", "psnr_worst": None}
    names = {"client": "client-00", "round": None, "members": 16, "candidates": 32, "hits": 15,
             "low": 0.7, "high": 0.998, "auc": 0.99, "chance": 1e-9}  # fmt: skip
    lucky = names | {"client": "client-01", "hits": 16, "chance": 0.2}
    page = table.page([row | {"updates": [*row["updates"], failed], "named": [names, lucky]}])
    assert row["conclusion"].split(". ")[0] in page.replace("\n", " ")
    assert "Attack failed: open" in page
    assert "| 15 of 16, client-00 |" in page  # the most beyond chance
    assert "| 15 | 70 % to 100 % | 0.990 |" in page
    assert "16, no more than by chance" in page


def test_a_complete_run_is_read_and_lines_of_other_scenarios_stay(made, tmp_path, monkeypatch):
    row, folder = made
    monkeypatch.setattr(hospitals, "run_in_process", None)  # would raise if it were called
    assert hospitals.completed("hospital", folder.path, {}).path == folder.path
    out = tmp_path / "rows.jsonl"
    common.put_rows(out, [row, row | {"scenario": "dp-hospital"}], "scenario")
    common.put_rows(out, [row | {"rounds": 9}], "scenario")
    assert [(one["scenario"], one["rounds"]) for one in rows.read(out)] == [
        ("hospital", 9),
        ("dp-hospital", 1),
    ]
