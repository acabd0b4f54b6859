from __future__ import annotations

import json
import math

import pytest

from adversary.report import comparison_json
from adversary.report.comparison import ComparedSetting, Run, compare_runs
from adversary.storage.run_folder import RunFolder

OURS = {"seed": 1, "out": "/home/mueller/x", "local.lr": 0.1, "data.path": "/home/mueller/a.csv"}
CHOSEN = {
    "none": {**OURS, "defence.name": "none"},
    "noise 3": {**OURS, "defence.name": "gaussian-noise", "defence.options": "scale=3"},
}
MEMBERS = (
    "round,client,attack,member,seconds,score,note\n"
    "1,client-00,standard,mean,0.5,12.5,\n"
    "1,client-00,standard,dlg,2,,/home/mueller is gone\n"
    "1,client-00-masked,standard,dlg,2,,\n"
)
ABOUT = {"versions": {"torch": "2.15"}, "device": "cpu", "revision": "abc",
         "data": {"name": "phantom", "synthetic": True}}  # fmt: skip


@pytest.fixture
def compared(evaluated, tmp_path):
    """Two settings, one with a seed that has not been run, and what comparison.json says."""
    copy = {"psnr": math.inf, "certificate": "proved", "truth": "mueller.png",
            "reidentified": True, "label_true": "1"}  # fmt: skip
    open_ = {"psnr": 7.3, "bound_psnr": 30.7, "certificate": "open", "told": ("misfit",)}
    paths = {
        "none": evaluated(
            tmp_path / "none",
            {"standard": [copy, copy | {"client": "client-00-masked"}]},
            members=MEMBERS,
            **ABOUT,
        ),
        "noise 3": evaluated(
            tmp_path / "noise", {"dlg": [open_ | {"psnr": 3.0}], "standard": [open_]}, **ABOUT
        ),
    }
    settings = [
        ComparedSetting(
            label=label, defence=label.split()[0], parameters="",
            runs=(Run(seed=1, path=path), Run(seed=2, path=tmp_path / "nowhere")),
        ) for label, path in paths.items()
    ]  # fmt: skip

    def read():
        path = comparison_json.write(tmp_path, compare_runs(settings), CHOSEN)
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)

    return read, paths


def test_it_says_what_was_measured_with_what(compared):
    found = compared[0]()
    assert (found["schema"], found["seeds"]) == (1, [1, 2])
    assert {key: found[key] for key in ("versions", "device", "revision")} == {
        key: ABOUT[key] for key in ("versions", "device", "revision")
    }
    assert found["data"]["name"] == "phantom"
    assert found["date"].count("-") == 2
    assert found["common"] == {"data.path": "a.csv", "local.lr": 0.1}
    none, noise = found["settings"]
    assert none["changes"] == {"defence.name": "none"}
    assert noise["changes"] == {"defence.name": "gaussian-noise", "defence.options": "scale=3"}


def test_verdicts_certificates_and_figures_and_nothing_that_is_no_number(compared):
    none, noise = compared[0]()["settings"]
    assert (none["verdict"], none["settled"], none["proved"]) == ("visible", True, 1.0)
    assert none["figures"]["psnr"] == {"mean": None, "std": None, "worst": None}  # infinite
    assert none["figures"]["reidentified"] == {"rate": 1.0, "chance": 0.25}
    assert (noise["verdict"], noise["settled"]) == ("open", False)
    assert (noise["certificates"], noise["flags"]) == ({"open": 1}, ["misfit"])
    assert noise["figures"]["bound_psnr"] == {"mean": 30.7, "worst": 30.7, "limit": 30.7}
    assert noise["figures"]["auc"]["mean"] == 0.9
    assert noise["examined"]["images"] == 1


def test_every_run_image_and_member_is_told_and_no_patient(compared):
    found = compared[0]()
    none, noise = found["settings"]
    first, second = none["runs"]
    assert second == {"seed": 2, "status": "missing"}
    assert [one["member"] for one in first["members"]] == ["mean", "dlg"]
    assert first["members"][1]["score"] is None
    assert first["training"]["auc"] == 0.9
    [image] = first["images"]
    assert (image["verdict"], image["psnr"], image["label_true"]) == ("visible", None, "1")
    assert [(one["attack"], one["psnr"]) for one in noise["runs"][0]["images"]] == [
        ("dlg", 3.0), ("standard", 7.3)
    ]  # fmt: skip
    assert noise["runs"][0]["members"] == []
    assert "mueller.png" not in json.dumps(found)


def test_of_a_run_kept_from_view_no_file_and_no_word_of_an_error_is_told(compared):
    read, paths = compared
    assert "mueller is gone" in json.dumps(read())
    RunFolder.open(paths["noise 3"]).update(sensitive=True)
    found = read()
    text = json.dumps(found)
    assert not [name for name in ("mueller", "a.csv", "phantom") if name in text]
    assert found["common"]["data.path"] == "left out"
    assert found["settings"][0]["note"] == "left out"


def test_the_same_runs_give_the_same_file(compared):
    read, _ = compared
    assert json.dumps(read()) == json.dumps(read())


def test_what_others_reported_stands_beside_the_settings_that_are_here(compared):
    told = compared[0]()["reported"]
    assert told
    assert {one["matches"] for one in told} == {"none"}


def test_reported_figures_name_their_source_and_what_differs():
    for one in comparison_json.reported():
        assert {"source", "setting", "psnr", "matches", "differs"} <= one.keys()
        assert 0 < one["psnr"] < 60
