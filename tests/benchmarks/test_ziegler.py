"""The chest X-ray system's runs, their rows, and the page that is made of them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from adversary.storage.run_folder import RunFolder
from benchmarks import ziegler
from benchmarks.tables import ziegler as table
from benchmarks.tables.rows import read
from fl_sim.engines.in_process import run_in_process
from fl_sim.settings.parse import parse
from fl_sim.settings.rules import SettingsError

SMALL = {
    "clients": 2, "rounds": 1, "model.name": "lenet", "data.image-size": 16,
    "adversary.attack": "ing", "adversary.options": "ing.iterations=3",
    "adversary.clients": 1, "adversary.bounds": "off", "adversary.identify": False,
    "adversary.start": "zeros, mean", "adversary.restarts": 2, "adversary.frames": 2,
}  # fmt: skip


def given(tmp_path, data, **changes):
    return argparse.Namespace(
        **{"data": tmp_path / data, "runs": tmp_path, "quick": False, "set": [], **changes}
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    settings = parse({**SMALL, "out": str(tmp_path_factory.mktemp("ziegler") / "run")})
    run_in_process(settings)
    folder = RunFolder.open(Path(settings.out))
    return ziegler.row("FedAvg", settings, folder), folder


@pytest.mark.parametrize("quick", [False, True])
def test_the_plan_has_each_part_frozen_and_each_budget(tmp_path, quick):
    wanted = ziegler.planned(given(tmp_path, "chest_xray.zip", quick=quick))
    settings = [case.settings for case in wanted.cases]
    assert {one.local.freeze for one in settings} == {"none", "batch-norm", "middle",
                                                      "all-but-last"}  # fmt: skip
    budgets = {one.defence.options.get("epsilon") for one in settings}
    assert budgets == {None, "1", "3", "6", "10"} or budgets == {None, 1, 3, 6, 10}
    assert {one.data.image_size for one in settings} == {32 if quick else 64}
    assert {one.clients for one in settings} == {6 if quick else 36}
    for one in settings:
        sizes = [int(size) for size in one.data.sizes.split(",")]
        assert len(sizes) == one.clients
        assert min(sizes) == sizes[0] == 4
    base = settings[0]
    assert base.adversary.start == "randn, rand, zeros, image, mean"
    assert base.adversary.start_image == str(tmp_path / "start.png")


def test_a_table_is_read_as_that_of_chexpert(tmp_path):
    wanted = ziegler.planned(given(tmp_path, "train.csv", set=["data.uncertain=ones"]))
    data = wanted.cases[0].settings.data
    assert (data.name, data.labels, data.uncertain) == ("folder", "No Finding", "ones")


def test_a_run_that_is_not_there_is_told(tmp_path):
    wanted = ziegler.planned(given(tmp_path, "chest_xray.zip"))
    assert [case.label for case in ziegler.only(wanted, ["epsilon 3"]).cases] == ["epsilon 3"]
    with pytest.raises(SettingsError, match="--only epsilon 4: must be one of FedAvg, "):
        ziegler.only(wanted, ["epsilon 4"])


def test_a_row_has_the_trials_of_the_folder(made):
    row, folder = made
    trials = folder.trials()
    assert [one["start"] for one in row["attacks"]] == ["zeros", "mean"]
    assert [one["psnr"] for one in row["attacks"]] == pytest.approx(trials["psnr"].tolist())
    assert sum(one["chosen"] for one in row["attacks"]) == 1
    assert row["auc"] == folder.rounds()["auc"].tolist()
    assert row["xrays"] == sum(folder.info()["clients"].values())
    assert json.loads(json.dumps(row)) == row
    process = folder.process(1, trials["client"][0], "ing")
    names = {f"trial-0{t}-image-00{kind}" for t in (0, 1) for kind in (".png", ".csv",
                                                                      "-result.png")}  # fmt: skip
    assert {file.name for file in process.iterdir()} == names


def test_the_page_says_what_the_rows_say(root, made):
    made_row = made[0]
    attack = {**made_row["attacks"][0], "start": "mean", "chosen": True, "psnr": 17.25}
    base = {**made_row, "size": 64, "attacks": [attack], "options": "ing.iterations=3, ing.lr=1"}
    base["named"] = [{"round": 1, "hits": 3, "members": 4, "candidates": 64}]
    rows = [
        base,
        {**base, "label": "freeze middle", "freeze": "middle"},
        {**base, "label": "group norm", "norm": "group"},
        *({**base, "label": f"epsilon {e}", "norm": "group", "budget": e, "epsilon": e / 2}
          for e in (1.0, 10.0)),
    ]  # fmt: skip
    text = table.page(rows, read(root / "benchmarks" / "results" / "realistic.jsonl"))
    assert text.startswith("# The chest X-ray system of Ziegler et al.\n\nFor ")
    assert "| published | 17.2" in text
    assert "3 of 4 |" in text
    middle, ten, one = (text.index(f"| {name} |") for name in ("middle", "10", "1 | 0.50"))
    assert middle < ten < one
    assert "3 steps |" in text
    assert "| epsilon 1, 10, for ten rounds" in text
