import html as escaping

import hypothesis.strategies as st
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings

from adversary.report import run_page
from adversary.report.redaction import is_sensitive, pseudonyms, redact
from adversary.storage import csv_table
from adversary.storage.run_folder import RunFolder
from adversary.storage.schemas import LEAKAGE


def told(path):
    """Return all that a page says, as a reader sees it and as it is written."""
    page = path.read_text(encoding="utf-8")
    return page + escaping.unescape(page)


@pytest.fixture(scope="module")
def hidden(tmp_path_factory):
    return RunFolder.create(tmp_path_factory.mktemp("runs") / "run", candidates=4, sensitive=True)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(name=st.text(min_size=1, max_size=20).map(lambda text: f"Mrs-{text}-Miller.dcm"))
def test_a_sensitive_report_holds_no_picture_and_no_name(hidden, name):
    where = {"round": 1, "client": "client-00", "attack": "ing"}
    csv_table.create(hidden.path / "leakage.csv", LEAKAGE)
    csv_table.append(
        hidden.path / "leakage.csv",
        LEAKAGE,
        [{**where, "image": 0, "truth": name, "psnr": 31.0, "score": 0.1, "status": "ok",
          "note": f"{name} was hard", "label_true": "1", "label_recovered": "1"}],
    )  # fmt: skip
    hidden.update(
        status="failed", reason=f"{name} cannot be read", title=f"/data/{name}",
        failures=[{**where, "reason": f"{name}: is damaged"}], missing={"lpips": f"for {name}"},
        data={"name": name, "attribution": f"images of the user: /data/{name}"},
        settings={
            "data.path": f"/data/{name}", "data": {"path": name}, "model.weights": name,
            "out": f"/runs/{name}", "adversary.start-image": f"/data/{name}",
        },
    )  # fmt: skip
    page = told(run_page.render(hidden))
    kept = csv_table.read(hidden.path / "leakage.csv", LEAKAGE)["truth"][0]
    assert name not in page
    assert kept not in page  # as the table holds it, without control characters
    assert "Miller" not in page
    assert "data:image" not in page
    assert "31.0 dB" in page
    assert "X-ray 1" in page


def test_it_stays_so_until_it_is_taken_back(folder, attacked):
    attacked(folder)
    folder.update(settings={"sensitive": True})
    assert "data:image" not in told(run_page.render(folder))
    folder.update(sensitive=False)
    assert "data:image" in told(run_page.render(folder))
    folder.update(sensitive=True, settings={})
    page = told(run_page.render(RunFolder.open(folder.path)))
    assert "data:image" not in page
    assert "p0.png" not in page


def test_diagnoses_are_told_as_right_or_wrong_only(folder, check):
    folder.update(sensitive=True)
    rows = [{"image": i, "truth": f"p{i}", "label_true": "7", "label_recovered": read, "psnr": 9.0}
            for i, read in enumerate("78")]  # fmt: skip
    where = {"round": 1, "client": "a", "attack": "ing", "status": "ok"}
    csv_table.append(folder.path / "leakage.csv", LEAKAGE, [where | row for row in rows])
    page = check(run_page.render(folder))
    assert "right" in page.text
    assert "wrong" in page.text
    assert "7 / 7" not in page.text


def test_without_truth_there_is_nothing_to_name(folder, check):
    where = {"round": 1, "client": "a", "attack": "ing", "status": "ok", "score": 0.5}
    csv_table.append(folder.path / "leakage.csv", LEAKAGE, [where | {"image": 0}])
    folder.update(sensitive=True)
    assert "no true images" in check(run_page.render(folder)).text


def test_the_same_xray_keeps_its_number():
    truth = pd.Series(["b.png", "a.png", None, "b.png"], dtype="string")
    numbered = pseudonyms(truth)
    assert numbered.fillna("").tolist() == ["X-ray 1", "X-ray 2", "", "X-ray 1"]


def test_which_runs_are_sensitive():
    assert not is_sensitive({})
    assert is_sensitive({"settings": {"sensitive": True}})
    assert not is_sensitive({"settings": {"sensitive": True}, "sensitive": False})
    assert redact({}, "run")["settings"] == {}
