from __future__ import annotations

import base64
import hashlib
import math
import re
from html.parser import HTMLParser

import hypothesis.strategies as st
import pandas as pd
import pytest
import torch
from hypothesis import given

from adversary.evaluation import ImageScore
from adversary.reconstruction import Reconstruction
from adversary.report import table
from adversary.report.comparison import (
    COMPARISON,
    Row,
    Run,
    Setting,
    front,
    headlines,
    measure,
    write_tables,
)
from adversary.report.comparison_html import render, summarise
from adversary.report.pictures import draw
from adversary.report.run_folder import RunFolder
from adversary.report.verdict import Level

ODD = """<script>alert(1)</script>"><img src=x onerror='alert(1)'>&$x_{"""


def ran(path, attacks, *, auc=0.9, epsilon=None, status="completed", names=("a.png", "b.png")):
    """Write the folder of a run with these PSNRs by attack; None is an attack that failed."""
    folder = RunFolder.create(path, defence={"protects": "Something, a bit."})
    folder.add_round(round=1, auc=0.5, loss=2.0, epsilon=None if epsilon is None else epsilon / 2)
    folder.add_round(round=2, auc=auc, loss=1.0, epsilon=epsilon, delta=epsilon and 1e-5)
    images = torch.rand(len(names), 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for attack, values in attacks.items():
        if values is None:
            folder.add_failure(1, "client-00", attack, "no luck")
            continue
        scores = [
            ImageScore(
                image=i, reconstruction=i, truth=name, psnr=psnr, ssim=psnr / 100,
                reidentified=psnr > 20, rdlv=0.2, label_true="1",
                label_recovered="1" if psnr > 15 else "0",
            )
            for i, (name, psnr) in enumerate(zip(names, values, strict=True))
        ]  # fmt: skip
        found = Reconstruction(
            images=images, labels=torch.ones(len(names)), score=0.0, seconds=1.0, evaluations=1
        )
        folder.add_reconstruction(
            1, "client-00", attack, found, scores, draw(found, scores, images)
        )
    folder.finish(status, "" if status == "completed" else "it rained")
    return path


def setting(label, *runs, defence="none", parameters=""):
    return Setting(
        label=label, defence=defence, parameters=parameters,
        runs=tuple(Run(seed=seed, path=path) for seed, path in enumerate(runs, 1)),
    )  # fmt: skip


def test_means_are_over_images_then_seeds_and_the_strongest_attack_comes_first(tmp_path):
    one = ran(tmp_path / "1", {"weak": (10.0, 12.0), "strong": (20.0, 30.0)}, auc=0.90, epsilon=2.0)
    two = ran(tmp_path / "2", {"weak": (12.0, 14.0), "strong": (22.0, 10.0)}, auc=0.94, epsilon=3.0)
    strong, weak = measure([setting("s", one, two)])
    assert (strong.attack, weak.attack, strong.runs) == ("strong", "weak", 2)
    assert (strong.psnr, strong.psnr_worst, weak.psnr) == (20.5, 30.0, 12.0)
    assert strong.psnr_std == pytest.approx(math.sqrt(2 * 4.5**2))  # of 25 and 16
    assert (strong.auc, strong.loss) == (pytest.approx(0.92), 1.0)
    assert strong.auc_std == pytest.approx(math.sqrt(2) * 0.02)
    assert (strong.epsilon, strong.delta) == (3.0, 1e-5)
    assert strong.reidentified == pytest.approx((0.5 + 0.5) / 2)
    assert strong.label_accuracy == pytest.approx((1 + 0.5) / 2)
    assert (strong.bound_psnr, strong.lpips) == (None, None)
    assert strong.level is Level.VISIBLE
    assert strong.protects == "Something, a bit."
    assert headlines([strong, weak]) == [strong]


def test_the_bound_is_read_where_the_run_has_one(tmp_path):
    path = ran(tmp_path / "1", {"ing": (20.0, 30.0)})
    leakage = pd.read_csv(path / "leakage.csv")
    leakage["bound_psnr"] = [31.0, 35.0]
    leakage.to_csv(path / "leakage.csv", index=False)
    [row] = measure([setting("s", path)])
    assert row.bound_psnr == 33.0


def test_runs_that_are_missing_or_failed_are_told_and_left_out(tmp_path):
    good = ran(tmp_path / "good", {"ing": (20.0, 30.0), "dlg": None})
    bad = ran(tmp_path / "bad", {"ing": (99.0, 99.0)}, status="failed")
    rows = measure([setting("mixed", good, bad), setting("none of it", tmp_path / "nowhere")])
    ing, dlg, missing = rows
    assert (ing.psnr, ing.psnr_std, ing.runs, ing.status) == (25.0, None, 1, "incomplete")
    assert ing.note == "seed 2: failed: it rained"
    assert dlg.note == "seed 2: failed: it rained; 1 attacks failed"
    assert (dlg.psnr, dlg.level) == (None, Level.UNKNOWN)
    assert (missing.status, missing.note, missing.runs) == ("missing", "seed 1: not run yet", 0)


def test_tables_read_back_and_missing_values_stay_empty(tmp_path):
    path = ran(tmp_path / "1", {"ing": (20.0, 1 / 3)})
    rows = measure([setting("=odd, label", path, parameters="scale=0.1"), setting("b", tmp_path)])
    write_tables(tmp_path, rows)
    read = table.read(tmp_path / "comparison.csv", COMPARISON)
    assert list(read.columns) == list(COMPARISON)
    assert list(read["label"]) == ["=odd, label", "b"]
    assert read["psnr"][0] == rows[0].psnr
    assert read["parameters"][0] == "scale=0.1"
    assert read.loc[1, ["attack", "epsilon", "auc", "psnr", "bound_psnr"]].isna().all()
    assert len(table.read(tmp_path / "comparison_attacks.csv", COMPARISON)) == 2


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=8))
def test_the_front_is_what_nothing_beats(points):
    rows = [
        Row(setting=setting(str(i)), auc=auc / 4, psnr=float(psnr))
        for i, (auc, psnr) in enumerate(points)
    ]
    found = front([*rows, Row(setting=setting("unknown"), auc=1.0)])
    for row in rows:
        beaten = any(
            (o.auc > row.auc and o.psnr <= row.psnr) or (o.auc >= row.auc and o.psnr < row.psnr)
            for o in rows
        )
        assert (row.label in found) is not beaten
    assert "unknown" not in found


class Page(HTMLParser):
    """The parts of a page that the tests ask about."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.images, self.links, self.policy = [], [], [], ""
        self.cells: dict[str, list[str]] = {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        assert not [name for name in attributes if name.startswith("on")]
        self.tags.append(tag)
        if tag == "img":
            self.images.append(attributes)
        if tag == "a":
            self.links.append(attributes["href"])
        if attributes.get("http-equiv") == "Content-Security-Policy":
            self.policy = attributes["content"]
        if tag in ("td", "th") and "data-value" in attributes:
            self.cells.setdefault(tag, []).append(attributes["data-value"])


@pytest.fixture
def page(tmp_path):
    runs = {
        ODD: ran(tmp_path / "runs/odd/seed-1", {"ing": (20.0, 30.0)}),
        "noise": ran(tmp_path / "runs/noise/seed-1", {"ing": (12.0, 14.0)}, names=("b.png", "c")),
    }
    (runs["noise"] / "report.html").write_text("its report")
    rows = measure([setting(label, path) for label, path in runs.items()])
    return Page(render(tmp_path, rows).read_text()), (tmp_path / "comparison.html").read_text()


def test_labels_are_escaped_and_only_the_page_s_own_script_may_run(page):
    parsed, text = page
    assert parsed.tags.count("script") == 1
    (script,) = re.findall(r"<script>(.*)</script>", text, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in parsed.policy
    assert "default-src 'none'" in parsed.policy
    assert not re.search(r"""(src|href|action)=["']?\s*(https?:)?//""", text)


def test_the_strip_shows_one_patient_that_all_have_in_common(page):
    parsed, _ = page
    assert len(parsed.images) == 3
    assert all(image["src"].startswith("data:image/") for image in parsed.images)
    assert parsed.images[0]["alt"] == "True X-ray b.png"
    assert parsed.images[1]["alt"] == f"Reconstruction of b.png under {ODD} by ing: 30.0 dB"
    assert parsed.images[2]["alt"] == "Reconstruction of b.png under noise by ing: 12.0 dB"


def test_reports_are_linked_where_they_are(page):
    parsed, _ = page
    assert [link for link in parsed.links if not link.startswith("#")] == [
        "runs/noise/seed-1/report.html"
    ]


def test_cells_hold_what_the_table_sorts_by(page):
    parsed, _ = page
    assert parsed.cells["th"] == [ODD, "noise"]
    assert {"25.0", "13.0"} <= set(parsed.cells["td"])
    assert "–" not in parsed.cells["td"]  # what is missing sorts as empty


def test_a_page_without_any_result_can_be_read(tmp_path):
    text = render(tmp_path, measure([setting("a", tmp_path / "x")])).read_text()
    assert "nothing to compare" in text
    assert "<svg" not in text


def row(label, psnr, auc, *, defence="other", **more):
    return Row(setting=setting(label, defence=defence), psnr=psnr, auc=auc, attack="ing", **more)


def test_the_summary_names_the_best_trade_and_each_epsilon():
    rows = [
        row("nothing", 40.0, 0.95, defence="none", psnr_worst=60.0, reidentified=1.0),
        row("mild", 25.0, 0.94),
        row("strong", 10.0, 0.80, epsilon=1.0),
        row("private", 12.0, 0.85, epsilon=8.0),
    ]
    said = summarise(rows)
    assert said[0] == (
        "Without a defence the strongest attack (ing) reaches 40.0 dB on average and 60.0 dB at "
        "worst. It singles out 100% of the patients. The model’s AUC is 0.950."
    )
    assert said[1] == (
        "The least leakage at an AUC within 0.02 of no defence is that of mild: 25.0 dB. "
        "It costs 0.010 of AUC, and takes 15.0 dB from the attacker."
    )
    assert said[2].startswith("The least leakage of all is that of strong: 10.0 dB. It costs 0.150")
    assert said[3:] == [
        "Differential privacy with ε = 1 (strong): 10.0 dB at an AUC of 0.800.",
        "Differential privacy with ε = 8 (private): 12.0 dB at an AUC of 0.850.",
    ]
