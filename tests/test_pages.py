"""The pages of docs/results say what benchmarks/results says."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from benchmarks import pages
from benchmarks.tables import defences, markdown, rows, templating
from fl_sim.cli.listing import settings_markdown


def setting(label, verdict, worst, limit, **more):
    figures = {
        "psnr": {"mean": worst, "std": None, "worst": worst},
        "bound_psnr": {"mean": limit, "worst": limit, "limit": limit},
        "prior_psnr": {"mean": 18.0},
        "null_psnr": {"mean": None},
        "reidentified": {"rate": 1.0, "chance": 0.001},
        "identification": {"auc": 1.0, "tpr_1": 0.5, "named": 0.5},
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


def cells(text):
    """Return the first table's rows, cells by column."""
    lines = [line for line in text.split("## ")[0].splitlines() if line.startswith("| ")]
    head, _, *body = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [dict(zip(head, cells, strict=True)) for cells in body]


def test_the_worst_stands_first_and_only_settled_verdicts_are_bold(found):
    table = cells(defences.page(found))
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
    text = defences.page(found)
    assert "- every setting: 1 of 8 hospitals, 1 of 30 rounds, images: 2 of 512" in text
    assert "phantom (synthetic), 5 images of clients, 6 public, 7 to test with" in text
    assert "torch 2.15" in text
    assert "`model.name = convnet`" in text
    assert "`below-mean`: The reconstruction is further" in text
    assert "| A \\| B | – | theirs | 20.78 | none | – | all |" in text


def test_of_models_that_have_not_learnt_the_page_says_so(found):
    assert "hardly learnt" not in defences.page(found)
    found["settings"][3]["figures"]["auc"]["mean"] = 0.6
    assert "hardly learnt" in defences.page(found)


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["pages", *map(str, arguments)])
    pages.main()


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / pages.RESULTS
    folder.mkdir(parents=True)
    return folder


def test_pages_are_written_checked_and_old_ones_told(found, results, tmp_path, monkeypatch):
    run(monkeypatch, "--check", "--root", tmp_path)  # nothing is committed: nothing is old
    (results / "defences.json").write_text(json.dumps(found))
    with pytest.raises(SystemExit) as error:
        run(monkeypatch, "--check", "--root", tmp_path)
    assert "defences.md is missing" in str(error.value)
    run(monkeypatch, "--root", tmp_path)
    run(monkeypatch, "--check", "--root", tmp_path)
    found["settings"][2]["verdict"] = "protected"
    (results / "defences.json").write_text(json.dumps(found))
    with pytest.raises(SystemExit) as error:
        run(monkeypatch, "--check", "--root", tmp_path)
    assert "defences.md is not up to date" in str(error.value)
    (results / "defences.json").unlink()
    with pytest.raises(SystemExit) as error:
        run(monkeypatch, "--check", "--root", tmp_path)
    assert "defences.json: no page can be made of it" in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("defences.json", "{", "no page can be made of it"),
        ("defences.json", '{"schema": 99}', "schema = 99: must be 1"),
        ("defences.json", '{"schema": 1}', "no page can be made of it"),
        ("local_steps.jsonl", '{"what": "attack"}\n{', "no page can be made of it"),
        ("local_steps.jsonl", '{"what": "time", "reading": "unrolled"}\n', "no page can be made"),
        ("others.json", "{}", "others.json: no page is made of it; known are "),
    ],
)
def test_results_of_which_no_page_can_be_made_are_a_line(
    name, text, said, results, tmp_path, monkeypatch
):
    (results / name).write_text(text)
    with pytest.raises(SystemExit) as error:
        run(monkeypatch, "--root", tmp_path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_block_is_written_between_its_comments_and_nothing_else_changes(tmp_path, monkeypatch):
    page = tmp_path / "docs" / "reference" / "settings.md"
    page.parent.mkdir(parents=True)
    page.write_text("before\n<!-- settings: of -->\nold\n<!-- end of settings -->\nafter\n")
    with pytest.raises(SystemExit) as error:
        run(monkeypatch, "--check", "--root", tmp_path)
    assert "settings.md is not up to date" in str(error.value)
    run(monkeypatch, "--root", tmp_path)
    table = settings_markdown()
    assert page.read_text() == (
        f"before\n<!-- settings: of -->\n{table}\n<!-- end of settings -->\nafter\n"
    )
    page.write_text("before\nafter\n")
    with pytest.raises(SystemExit) as error:
        run(monkeypatch, "--check", "--root", tmp_path)
    assert "there is no block <!-- settings: ... -->" in str(error.value)


def test_what_is_committed_is_up_to_date():
    assert pages.stale() == []
    made = {path.relative_to(pages.ROOT).as_posix() for path, _ in pages.pages()}
    assert made == {page.path for page in pages.PAGES}
    written = {path.name for path in (pages.ROOT / "docs" / "results").glob("*.md")}
    assert written == {Path(path).name for path in made if path.startswith("docs/results/")}


def test_a_changed_row_changes_the_page_and_the_readme(tmp_path, monkeypatch):
    for name in ("benchmarks/results", "docs/results", "docs/reference"):
        shutil.copytree(pages.ROOT / name, tmp_path / name)
    shutil.copy(pages.ROOT / "README.md", tmp_path)
    run(monkeypatch, "--check", "--root", tmp_path)
    file = tmp_path / pages.RESULTS / "exact_recovery.json"
    text = file.read_text()
    assert text.count('"psnr_worst": 142.439') == 1
    file.write_text(text.replace('"psnr_worst": 142.439', '"psnr_worst": 99.9'))
    old = [line.partition(" is ")[0] for line in pages.stale(tmp_path)]
    made = ["docs/results/index.md", "docs/results/exact-recovery.md", "README.md"]
    assert old == [str(tmp_path / path) for path in made]


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.953, ".953"), (-0.15, "-.150"), (-0.0001, ".000"), (1.0, "1.000"), (0.99996, "1.000")],
)
def test_fractions_have_no_leading_zero_and_no_sign_of_nothing(value, said):
    assert markdown.fraction(value, 3) == said


def test_a_row_of_another_number_of_cells_makes_no_table():
    assert markdown.table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    with pytest.raises(ValueError, match="1 cells in a row of a table of 2"):
        markdown.table(["a", "b"], [["1"]])


def test_only_one_row_can_be_meant():
    table = [{"a": 1, "b": 2}, {"a": 1}, {"a": 2}]
    assert rows.only(table, a=1, b=None) == {"a": 1}
    assert rows.having(table, a=1) == table[:2]
    for wanted, count in (({"a": 1}, 2), ({"a": 3}, 0)):
        with pytest.raises(rows.ResultError, match=f"^{count} rows of"):
            rows.only(table, **wanted)


def test_prose_is_filled_without_a_break_in_code_and_tables_are_left_alone():
    long = "word " * 30
    code = "`python -m benchmarks pages`"
    text = templating._filled(f"{long}{code} {long}")
    assert code in text
    assert max(map(len, text.splitlines())) <= templating.WIDTH
    assert len(text.splitlines()) > 2
    table = "| " + "x" * 200 + " |"
    assert templating._filled(table) == table
