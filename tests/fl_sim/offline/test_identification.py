"""Patients are named from the recorded updates of a real run, by what the attacker has alone."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from adversary.storage.run_folder import RunFolder
from fl_sim.cli.app import main
from fl_sim.data import load
from fl_sim.offline.identification import IdentificationRunError, identify_run

SETTINGS = {
    "rounds": "2", "clients": "2", "device": "cpu",
    "data.name": "sample", "data.image-size": "16", "data.sizes": "6, 24",
    "local.batch-size": "4", "local.max-steps": "0", "local.lr": "0.05",
    "adversary.attack": "dlg", "adversary.options": "dlg.iterations=1",
    "adversary.bounds": "off", "adversary.record": "true", "adversary.candidates": "150",
}  # fmt: skip


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded") / "run"
    changes = [word for k, v in SETTINGS.items() for word in ("--set", f"{k}={v}")]
    assert main(["run", "--engine", "local", "--out", str(folder), *changes]) == 0
    return folder


@pytest.fixture
def run(recorded, tmp_path):
    return shutil.copytree(recorded, tmp_path / "run")


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """A folder of 30 candidates, some of whom took part."""
    place = tmp_path_factory.mktemp("gallery")
    private = load("sample", image_size=16).private
    for number in range(30):
        folder = place / "ab"[int(private.labels[number])]
        folder.mkdir(exist_ok=True)
        Image.fromarray(np.asarray(private.images[number, 0])).save(folder / f"{number}.png")
    return str(place)


def without_times(run):
    return RunFolder.open(run).identification().drop(columns="seconds")


def test_patients_of_small_hospitals_are_named_round_by_round_and_joined(run, capsys):
    in_the_run, candidates = without_times(run), (run / "candidates.csv").read_text()
    identify_run(run)
    pd.testing.assert_frame_equal(without_times(run), in_the_run)
    assert (run / "candidates.csv").read_text() == candidates
    rows = RunFolder.open(run).identification()
    assert rows["round"].astype(object).where(rows["round"].notna(), None).tolist() == [
        1, 1, 2, 2, None, None,
    ]  # fmt: skip
    assert rows["members"].tolist() == [6, 24] * 3
    assert rows["candidates"].tolist() == [150 + 6, 150 + 24] * 3
    first = rows[rows["round"] == 1]
    assert (first["auc"] > 0.97).all()
    assert (first["tpr_1"] >= 0.8).all()
    assert rows["ceiling_tpr_1"].isna().all()  # nothing is promised
    everyone = pd.read_csv(run / "candidates.csv")
    assert len(everyone) == 3 * (156 + 174)
    assert everyone["p_value"].between(0, 1).all()
    said = capsys.readouterr().out
    assert "patients named at one false alarm in a hundred" in said


def test_a_sensitive_run_keeps_the_names_of_patients_to_itself(run, gallery):
    RunFolder.open(run).update(sensitive=True)
    identify_run(run, candidates=gallery)
    assert (run / "identification.csv").exists()
    assert not (run / "candidates.csv").exists()


def test_of_a_file_of_candidates_only_scores_come_out(run, gallery):
    identify_run(run, candidates=gallery)
    rows = RunFolder.open(run).identification()
    assert rows[["members", "auc", "tpr_1"]].isna().all(None)
    assert len(pd.read_csv(run / "candidates.csv")) == 6 * 30


def test_an_update_that_cannot_be_read_is_a_row_that_says_why(run, gallery):
    RunFolder.open(run).recorded_updates()[0].write_bytes(b"")
    identify_run(run, candidates=gallery)
    rows = RunFolder.open(run).identification()
    assert len(rows) == 5  # one client has a single round left, which is not joined
    assert "not a recorded update" in rows["note"].iloc[0]
    assert rows["note"].iloc[1:].isna().all()


def test_a_run_without_recorded_updates_is_named(run):
    shutil.rmtree(run / "updates")
    with pytest.raises(IdentificationRunError, match="holds no recorded updates"):
        identify_run(run)
