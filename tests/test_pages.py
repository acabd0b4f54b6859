"""The pages of docs/results say what the results beside them say."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks import pages


def setting(label, verdict, worst, limit, **more):
    figures = {
        "psnr": {"mean": worst, "std": None, "worst": worst},
        "bound_psnr": {"mean": limit, "worst": limit, "limit": limit},
        "prior_psnr": {"mean": 18.0},
        "null_psnr": {"mean": None},
        "reidentified": {"rate": 1.0, "chance": 0.001},
        "auc": {"mean": 0.9},
        "privacy": {"epsilon": None, "delta": None},
    }
    examined = {"clients": 1, "hospitals": 8, "rounds": 1, "rounds_run": 30, "images": 2,
                "images_held": 512, "runs": 2, "aggregate": False}  # fmt: skip
    return {
        "label": label, "defence": label, "verdict": verdict, "proved": 0.5, "flags": [],
        "attack": "standard", "figures": figures, "examined": examined, **more,
    }  # fmt: skip


@pytest.fixture
def found():
    return {
        "schema": 1, "date": "2026-01-02", "versions": {"torch": "2.15"}, "device": "cpu",
        "revision": "abc", "seeds": [1, 2],
        "data": {"name": "phantom", "synthetic": True, "private": 5, "public": 6, "test": 7},
        "common": {"model.name": "convnet", "rounds": 30},
        "settings": [
            setting("safe", "protected", 17.5, 18.3),
            setting("noise 1", "open", 12.0, 36.9),
            setting("noise 3", "open", 7.3, 30.7, flags=["below-mean"]),
            setting("none", "visible", None, 147.5),
            setting("later", None, None, None),
        ],
        "reported": [{"source": "A | B", "setting": "theirs", "psnr": 20.78, "matches": "none",
                      "differs": "all"}],
    }  # fmt: skip


def rows(text):
    """Return the first table's rows, cells by column."""
    lines = [line for line in text.split("## ")[0].splitlines() if line.startswith("| ")]
    head, _, *body = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [dict(zip(head, cells, strict=True)) for cells in body]


def test_the_worst_stands_first_and_only_settled_verdicts_are_bold(found):
    table = rows(pages.defences(found))
    assert [(row["setting"], row["verdict"]) for row in table] == [
        ("none", "**Patient visible**"), ("noise 1", "Open"), ("noise 3", "Open"),
        ("safe", "**Protected**"), ("later", "Not measured"),
    ]  # fmt: skip
    noise = table[2]
    assert (noise["worst"], noise["bound"], noise["mean X-ray"]) == ("7.3", "30.7", "18.0")
    assert (noise["proved"], noise["re-identified"]) == ("50 %", "100 % (chance 0.1 %)")
    assert (noise["null"], noise["epsilon"], noise["flags"]) == ("–", "–", "below-mean")
    assert (table[0]["worst"], table[4]["worst"]) == ("exact", "–")


def test_the_page_says_on_what_it_was_measured_and_what_others_report(found):
    text = pages.defences(found)
    assert "- every setting: 1 of 8 hospitals, 1 of 30 rounds, images: 2 of 512" in text
    assert "phantom (synthetic), 5 images of clients, 6 public, 7 to test with" in text
    assert "torch 2.15" in text
    assert "`model.name = convnet`" in text
    assert "`below-mean`: The reconstruction is further" in text
    assert "| A \\| B | – | theirs | 20.78 | none | – | all |" in text


def test_of_models_that_have_not_learnt_the_page_says_so(found):
    assert "hardly learnt" not in pages.defences(found)
    found["settings"][3]["figures"]["auc"]["mean"] = 0.6
    assert "hardly learnt" in pages.defences(found)


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["pages", *map(str, arguments)])
    pages.main()


def test_pages_are_written_checked_and_old_ones_told(found, tmp_path, monkeypatch):
    run(monkeypatch, "--check", "--folder", tmp_path)  # nothing is committed: nothing is old
    (tmp_path / "defences.json").write_text(json.dumps(found))
    with pytest.raises(SystemExit) as error:
        run(monkeypatch, "--check", "--folder", tmp_path)
    assert "defences.md is missing" in str(error.value)
    run(monkeypatch, "--folder", tmp_path)
    run(monkeypatch, "--check", "--folder", tmp_path)
    found["settings"][2]["verdict"] = "protected"
    (tmp_path / "defences.json").write_text(json.dumps(found))
    with pytest.raises(SystemExit) as error:
        run(monkeypatch, "--check", "--folder", tmp_path)
    assert "defences.md is not up to date" in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("defences.json", "{", "no page can be made of it"),
        ("defences.json", '{"schema": 99}', "schema = 99: must be 1"),
        ("defences.json", '{"schema": 1}', "no page can be made of it"),
        (
            "others.json",
            "{}",
            "others.json: no page is made of it; known are certificates, defences",
        ),
    ],
)
def test_results_of_which_no_page_can_be_made_are_a_line(name, text, said, tmp_path, monkeypatch):
    (tmp_path / name).write_text(text)
    with pytest.raises(SystemExit) as error:
        run(monkeypatch, "--folder", tmp_path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_committed_is_up_to_date():
    assert pages.stale(pages.FOLDER) == []
