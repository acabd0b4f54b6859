import json

import pytest

from adversary.report.run_history import history, render
from adversary.storage.run_folder import RunFolderError

COPY = {"psnr": 52.5, "bound_psnr": 60.0, "reidentified": True}
OPEN = {"psnr": 9.0, "bound_psnr": 46.0, "prior_psnr": 18.0}


def started(path, when, **about):
    info = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps(info | about | {"started": f"{when}T10:00:00+00:00"}))


@pytest.fixture
def runs(evaluated, tmp_path):
    """Three runs of one setting and seeds of their own, and one of another, in folders."""
    settings = {"rounds": 1, "defence.name": "none", "out": "x", "seed": 1}
    for name, image, when, own in (
        ("a", COPY, "2026-01-01", {}),
        ("cmp/runs/b/seed-2", COPY, "2026-01-02", {"seed": 2}),
        ("c", OPEN, "2026-01-03", {}),
        ("other", OPEN, "2026-01-04", {"rounds": 2}),
    ):
        path = evaluated(tmp_path / name, {"standard": [image]}, data={"name": "kermany"})
        started(path, when, settings=settings | own)
    return tmp_path


def test_runs_are_found_the_latest_first_with_what_changed(runs):
    found = history(runs)
    assert [one.name for one in found] == ["other", "c", "cmp/runs/b/seed-2", "a"]
    assert [one.changed for one in found] == [
        "first of these settings",
        "Patient visible → Open; bound 60.0 → 46.0 dB",
        "as a",
        "first of these settings",
    ]


def test_a_folder_without_a_run_is_told_in_a_line(tmp_path):
    with pytest.raises(RunFolderError, match="no run, and no folder of a run below it"):
        history(tmp_path)


def test_the_page_links_the_reports_and_escapes_names(runs, check):
    (runs / "c" / "report.html").write_text("x")
    (runs / "a").rename(runs / "<b>a")
    text = render(runs).read_text(encoding="utf-8")
    assert 'href="c/report.html"' in text
    assert "&lt;b&gt;a" in text
    assert "<b>" not in text
    assert text.count('class="badge l5"') == 2
