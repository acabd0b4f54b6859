import html as escaping

import pytest

from adversary.report.comparison import compare_runs
from adversary.report.comparison_page import render
from adversary.report.run_groups import settings_of
from adversary.storage.run_folder import RunFolder

BASE = {"seed": 1, "out": "x", "data.path": "/data/a.csv", "defence.name": "none", "local.lr": 0.1}


@pytest.fixture
def make(tmp_path, attacked):
    def ran(name, **settings):
        folder = RunFolder.create(
            tmp_path / name, candidates=4, seed=settings.get("seed", 1), settings=BASE | settings
        )
        attacked(folder, rounds=1)
        folder.finish("completed")
        return folder

    return ran


def test_runs_that_differ_by_seed_alone_are_one_setting(make):
    runs = [make("a"), make("b", seed=2, out="y"), make("c", **{"local.lr": 0.2})]
    first, second = settings_of(runs)
    assert (first.label, second.label) == ("a, b", "c")
    assert [run.seed for run in first.runs] == [1, 2]
    assert (first.parameters, second.parameters) == ("local.lr=0.1", "local.lr=0.2")
    assert first.defence == "none"


def test_runs_of_one_name_are_told_apart_by_their_place(make):
    labels = [one.label for one in settings_of([make("x/run"), make("y/run", rounds=2)])]
    assert labels == ["x/run", "y/run"]


def test_runs_without_settings_are_compared_each_by_itself(tmp_path):
    runs = [RunFolder.create(tmp_path / name) for name in "ab"]
    assert [one.label for one in settings_of(runs)] == ["a", "b"]


def test_the_page_links_to_reports_elsewhere_and_hides_what_one_run_hides(make, tmp_path):
    runs = [make("a"), make("deep/b", **{"data.path": "/data/mueller.csv"})]
    for run in runs:
        (run.path / "report.html").write_text("there")
    out = tmp_path / "out"

    def page():
        path = render(out, compare_runs(settings_of(runs)), same_conditions=False)
        return escaping.unescape(path.read_text(encoding="utf-8"))

    text = page()
    assert "../a/report.html" in text
    assert "../deep/b/report.html" in text
    assert "mueller" in text
    assert "p0.png" in text
    assert "data:image" in text
    runs[0].update(sensitive=True)
    text = page()
    assert not [name for name in ("mueller", "p0.png", "data:image") if name in text]
    assert "data.path=left out" in text
