from __future__ import annotations

import base64
import dataclasses
import hashlib
import math
import re
from html.parser import HTMLParser

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given

from adversary.common.results import Reconstruction
from adversary.report import charts
from adversary.report.comparison import (
    COMPARISON,
    ComparedSetting,
    ComparisonRow,
    Run,
    compare_runs,
    headlines,
    in_lines,
    pareto_front,
    write_tables,
)
from adversary.report.comparison_page import ordered, render, summarise
from adversary.report.first_page.guarantee import Guarantee
from adversary.report.pictures import draw
from adversary.report.promises import Promise, promise_of
from adversary.report.span_bars import place, span_bar
from adversary.scoring.image_scores import ImageScore
from adversary.scoring.verdict import Severity
from adversary.storage import csv_table
from adversary.storage.run_folder import RunFolder
from adversary.storage.schemas import IDENTIFICATION

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
    return ComparedSetting(
        label=label, defence=defence, parameters=parameters,
        runs=tuple(Run(seed=seed, path=path) for seed, path in enumerate(runs, 1)),
    )  # fmt: skip


def test_means_are_over_images_then_seeds_and_the_strongest_attack_comes_first(tmp_path):
    one = ran(tmp_path / "1", {"weak": (10.0, 12.0), "strong": (20.0, 30.0)}, auc=0.90, epsilon=2.0)
    two = ran(tmp_path / "2", {"weak": (12.0, 14.0), "strong": (22.0, 10.0)}, auc=0.94, epsilon=3.0)
    strong, weak = compare_runs([setting("s", one, two)])
    assert (strong.attack, weak.attack, strong.runs) == ("strong", "weak", 2)
    assert (strong.psnr, strong.psnr_worst, weak.psnr) == (20.5, 30.0, 12.0)
    assert strong.psnr_std == pytest.approx(math.sqrt(2 * 4.5**2))  # of 25 and 16
    assert (strong.auc, strong.loss) == (pytest.approx(0.92), 1.0)
    assert strong.auc_std == pytest.approx(math.sqrt(2) * 0.02)
    assert (strong.epsilon, strong.delta) == (3.0, 1e-5)
    assert strong.reidentified == pytest.approx((0.5 + 0.5) / 2)
    assert strong.label_accuracy == pytest.approx((1 + 0.5) / 2)
    assert (strong.bound_psnr, strong.lpips) == (None, None)
    assert strong.level is Severity.VISIBLE
    assert strong.protects == "Something, a bit."
    assert headlines([strong, weak]) == [strong]


def test_the_bound_is_read_where_the_run_has_one(tmp_path):
    path = ran(tmp_path / "1", {"ing": (20.0, 30.0)})
    leakage = pd.read_csv(path / "leakage.csv")
    leakage["bound_psnr"] = [31.0, 35.0]
    leakage.to_csv(path / "leakage.csv", index=False)
    [row] = compare_runs([setting("s", path)])
    assert row.bound_psnr == 33.0


def test_runs_that_are_missing_or_failed_are_told_and_left_out(tmp_path):
    good = ran(tmp_path / "good", {"ing": (20.0, 30.0), "dlg": None})
    bad = ran(tmp_path / "bad", {"ing": (99.0, 99.0)}, status="failed")
    rows = compare_runs([setting("mixed", good, bad), setting("none of it", tmp_path / "nowhere")])
    ing, dlg, missing = rows
    assert (ing.psnr, ing.psnr_std, ing.runs, ing.status) == (25.0, None, 1, "incomplete")
    assert ing.note == "seed 2: failed: it rained"
    assert dlg.note == "seed 2: failed: it rained; 1 attacks failed"
    assert (dlg.psnr, dlg.level) == (None, Severity.UNKNOWN)
    assert (missing.status, missing.note, missing.runs) == ("missing", "seed 1: not run yet", 0)


def test_tables_read_back_and_missing_values_stay_empty(tmp_path):
    path = ran(tmp_path / "1", {"ing": (20.0, 1 / 3)})
    rows = compare_runs(
        [setting("=odd, label", path, parameters="scale=0.1"), setting("b", tmp_path)]
    )
    write_tables(tmp_path, rows)
    read = csv_table.read(tmp_path / "comparison.csv", COMPARISON)
    assert list(read.columns) == list(COMPARISON)
    assert list(read["label"]) == ["=odd, label", "b"]
    assert read["psnr"][0] == rows[0].psnr
    assert read["parameters"][0] == "scale=0.1"
    assert read.loc[1, ["attack", "epsilon", "auc", "psnr", "bound_psnr"]].isna().all()
    assert len(csv_table.read(tmp_path / "comparison_attacks.csv", COMPARISON)) == 2


NOISE_3 = {"psnr": 7.3, "bound_psnr": 30.7, "prior_psnr": 18.0, "rdlv": -1.2}
COPY = {"psnr": 52.5, "bound_psnr": 147.5, "prior_psnr": 18.0, "rdlv": 0.6, "reidentified": True}
SAFE = {"psnr": 18.1, "bound_psnr": 18.3, "prior_psnr": 18.0, "rdlv": 0.01}


@pytest.mark.parametrize(
    ("images", "verdict", "limit"),
    [
        ([NOISE_3], "open", 30.7),
        ([NOISE_3 | {"negative": True}], "identifiable", 30.7),
        ([SAFE], "protected", 18.3),
        ([SAFE, NOISE_3], "open", 30.7),
        ([SAFE, {"psnr": 18.1, "rdlv": None, "reidentified": None}], "open", None),
        ([SAFE, COPY], "visible", 147.5),
        ([{"psnr": 17.9, "prior_psnr": 18.0, "certificate": "nothing"}], "protected", 18.0),
        ([{"psnr": 17.9, "prior_psnr": 18.0, "certificate": "open"}], "open", None),
        ([COPY | {"bound_psnr": 50.0}], "visible", 52.5),  # a bound is an average
    ],
)
def test_the_verdict_is_that_of_the_worst_image(evaluated, tmp_path, images, verdict, limit):
    [row] = compare_runs([setting("s", evaluated(tmp_path / "1", {"standard": images}))])
    assert (row.verdict, row.limit) == (verdict, limit)
    assert row.cells()["verdict"] == verdict


def test_protected_takes_every_update_that_was_attacked(evaluated, tmp_path):
    path = evaluated(tmp_path / "1", {"standard": [SAFE]})
    RunFolder.open(path).add_failure(1, "client-01", "standard", "no luck")
    [row] = compare_runs([setting("s", path)])
    assert (row.verdict, row.note) == ("open", "1 attacks failed")


def test_the_strongest_attack_is_that_of_the_worst_case_and_no_mean_over_failures(
    evaluated, tmp_path
):
    runs = [
        evaluated(tmp_path / str(psnr), {
            "steady": [{"psnr": 15.0}], "rare": [COPY | {"psnr": psnr}]
        }) for psnr in (31.2, 2.0)
    ]  # fmt: skip
    strong, weak = compare_runs([setting("s", *runs)])
    assert (strong.attack, strong.psnr, strong.psnr_worst) == ("rare", 16.6, 31.2)
    assert (weak.attack, weak.psnr, weak.psnr_worst) == ("steady", 15.0, 15.0)
    assert strong.verdict == "visible"


def test_of_equal_levels_the_highest_psnr_beyond_the_null_comes_first(evaluated, tmp_path):
    attacks = {
        "mean": [{"psnr": 18.0, "null_psnr": 17.9}],
        "real": [{"psnr": 16.0, "null_psnr": 12.0}],
        "less": [{"psnr": 15.0, "null_psnr": 12.0}],
    }
    rows = compare_runs([setting("s", evaluated(tmp_path / "1", attacks))])
    assert [row.verdict for row in rows] == ["open"] * 3
    assert [row.attack for row in rows] == ["real", "less", "mean"]


def test_means_shares_and_flags_of_what_the_attacker_states(evaluated, tmp_path):
    one = COPY | {"certificate": "proved", "expected_psnr": 53.0, "null_psnr": 11.0,
                  "told": ("oracle",), "flags": ("bound-far-above",)}  # fmt: skip
    two = NOISE_3 | {"certificate": "open", "expected_psnr": 9.0, "null_psnr": 9.0,
                     "flags": ("below-mean", "of-a-plug-in"), "told": ("misfit",)}  # fmt: skip
    path = evaluated(tmp_path / "1", {"standard": [one, two], "dlg": [{"psnr": 1.0}]})
    standard, dlg = compare_runs([setting("s", path)])
    assert (standard.proved, dict(standard.certificates)) == (0.5, {"open": 1, "proved": 1})
    assert (standard.expected_psnr, standard.prior_psnr, standard.null_psnr) == (31.0, 18.0, 10.0)
    assert (standard.bound_psnr, standard.bound_psnr_worst) == (pytest.approx(89.1), 147.5)
    assert standard.cells()["flags"] == "misfit;oracle;bound-far-above;below-mean;of-a-plug-in"
    assert standard.chance == 1 / 4
    assert (dlg.proved, dlg.cells()["flags"], dlg.limit) == (None, "", None)
    write_tables(tmp_path, [standard, dlg])
    read = csv_table.read(tmp_path / "comparison.csv", COMPARISON)
    assert list(read[["verdict", "proved", "images"]].loc[0]) == ["visible", 0.5, 2]


def test_a_bound_that_not_all_images_have_is_no_limit(evaluated, tmp_path):
    images = [NOISE_3, NOISE_3 | {"bound_psnr": None}]
    [row] = compare_runs([setting("s", evaluated(tmp_path / "1", {"standard": images}))])
    assert (row.bound_psnr_worst, row.limit, row.verdict) == (30.7, None, "open")


def test_what_was_examined_is_counted(evaluated, tmp_path):
    images = [SAFE, SAFE | {"client": "client-01"}]
    runs = [evaluated(tmp_path / str(n), {"a": images, "b": images}, seed=n) for n in (1, 2)]
    row, _ = compare_runs([setting("s", *runs)])
    assert str(row.examined) == (
        "2 of 2 hospitals, 1 of 1 round, 4 images of 12 that the hospitals hold, 2 runs"
    )
    whole = evaluated(
        tmp_path / "sum", {"a": [SAFE | {"client": "aggregate"}]}, threat={"view": "aggregate"}
    )
    [row] = compare_runs([setting("s", whole)])
    assert str(row.examined).startswith("the aggregate of 2 hospitals, 1 of 1 round, 1 image of")


def test_masked_updates_never_enter(evaluated, tmp_path):
    images = [SAFE, COPY | {"client": "client-00-masked"}]
    path = evaluated(tmp_path / "1", {"standard": images, "mask": images[1:]})
    [row] = compare_runs([setting("s", path)])
    assert (row.attack, row.psnr, row.images, row.verdict) == ("standard", 18.1, 1, "protected")


def test_an_exact_copy_in_one_seed_is_the_worst_and_leaves_no_spread(evaluated, tmp_path):
    runs = [
        evaluated(tmp_path / str(psnr), {"standard": [COPY | {"psnr": psnr}]})
        for psnr in (math.inf, 20.0)
    ]
    [row] = compare_runs([setting("s", *runs)])
    assert (row.psnr, row.psnr_worst, row.psnr_std) == (math.inf, math.inf, None)
    assert row.verdict == "visible"


def test_a_label_that_was_not_recovered_counts_as_wrong(evaluated, tmp_path):
    told = [("1", "1"), ("1", None), (None, "1"), ("0", "1")]
    images = [SAFE | {"label_true": true, "label_recovered": said} for true, said in told]
    [row] = compare_runs([setting("s", evaluated(tmp_path / "1", {"standard": images}))])
    assert row.label_accuracy == pytest.approx(1 / 3)


def test_a_mechanism_without_noise_claims_no_epsilon(evaluated, tmp_path):
    attacks = {"standard": [COPY]}
    clipped, both = compare_runs([
        setting("clipped", evaluated(tmp_path / "1", attacks, epsilon=math.inf)),
        setting("both", evaluated(tmp_path / "2", attacks, epsilon=2.0),
                evaluated(tmp_path / "3", attacks, epsilon=math.inf)),
    ])  # fmt: skip
    assert (clipped.epsilon, clipped.delta, clipped.unearned) == (None, None, True)
    assert (both.epsilon, both.unearned) == (None, True)
    said = summarise([clipped])
    assert said[-1] == "“clipped” claims no ε: without noise nothing is earned."


def identified(folder, *rows):
    for row in rows:
        csv_table.create(folder / "identification.csv", IDENTIFICATION)
        csv_table.append(folder / "identification.csv", IDENTIFICATION, [row])
    return folder


def test_who_can_be_named_counts_for_the_verdict_and_is_told_apart_from_the_models_auc(
    evaluated, tmp_path
):
    hit = {"round": 1, "client": "client-00", "members": 16, "candidates": 216, "auc": 0.97,
           "tpr_1": 1.0, "named": 0.75}  # fmt: skip
    rows = compare_runs([
        setting("named", identified(evaluated(tmp_path / "1", {"standard": [SAFE]}), hit)),
        setting("not", identified(evaluated(tmp_path / "2", {"standard": [SAFE]}),
                                  hit | {"auc": 0.5, "tpr_1": 0.0, "named": 0.0})),
        setting("nobody asked", evaluated(tmp_path / "3", {"standard": [SAFE]})),
    ])  # fmt: skip
    assert [row.level.slug for row in rows] == ["identifiable", "protected", "protected"]
    assert [row.identification_auc for row in rows] == [0.97, 0.5, None]
    assert (rows[0].tpr_1, rows[0].named) == (1.0, 0.75)
    assert rows[0].cells()["tpr_1"] == 1.0
    assert in_lines(rows)[1].endswith("100% of patients")
    page = render(tmp_path, rows).read_text()
    assert "Who can be named, against AUC" in page
    assert "the server can name 100% of patients at one false alarm in a hundred" in page


def test_the_lines_of_a_terminal_go_from_attack_to_bound(evaluated, tmp_path):
    rows = compare_runs([
        setting("noise 3", evaluated(tmp_path / "1", {"standard": [NOISE_3]})),
        setting("none", evaluated(tmp_path / "2", {"standard": [COPY | {"bound_psnr": 50.0}]})),
        setting("x", evaluated(tmp_path / "3", {"standard": [COPY | {"bound_psnr": None}]})),
        setting("later", tmp_path / "nowhere"),
    ])  # fmt: skip
    assert in_lines(rows) == [
        "setting  verdict          worst PSNR to bound",
        "noise 3  Open             7.3 dB to 30.7 dB",
        "none     Patient visible  52.5 dB, at its bound of 50.0 dB",
        "x        Patient visible  52.5 dB, bound not known",
        "later    Not measured     seed 1: not run yet",
    ]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=8))
def test_the_front_is_of_upper_limits_that_nothing_beats(points):
    rows = [
        ComparisonRow(setting=setting(str(i)), auc=auc / 4, limit=float(limit), psnr=0.0)
        for i, (auc, limit) in enumerate(points)
    ]
    unbounded = [
        ComparisonRow(setting=setting("unknown"), auc=1.0, psnr=0.0, psnr_worst=0.0),
        ComparisonRow(setting=setting("endless"), auc=1.0, psnr=0.0, limit=math.inf),
    ]
    found = pareto_front([*rows, *unbounded])
    for row in rows:
        beaten = any(
            (o.auc > row.auc and o.limit <= row.limit) or (o.auc >= row.auc and o.limit < row.limit)
            for o in rows
        )
        assert (row.label in found) is not beaten
    assert not found & {"unknown", "endless"}


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
    rows = compare_runs([setting(label, path) for label, path in runs.items()])
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
    assert all(image["src"].startswith("data:image/") for image in parsed.images)
    strip = [image["alt"] for image in parsed.images if "b.png" in image["alt"]]
    assert strip == [
        "True X-ray b.png",
        f"Reconstruction of b.png under {ODD} by ing: 30.0 dB",
        "Reconstruction of b.png under noise by ing: 12.0 dB",
    ]


def test_each_setting_shows_its_own_worst_x_ray_beside_its_own_truth(page):
    parsed, text = page
    alts = [image["alt"] for image in parsed.images]
    for label, psnr in ((ODD, "30.0"), ("noise", "14.0")):
        truth = alts.index(f"The true X-ray that gave away the most under {label}")
        assert alts[truth + 1] == f"What ing made of it under {label}: {psnr} dB"
    assert "30.0 dB; b.png of client-00, round 1" in text
    assert "14.0 dB; c of client-00, round 1" in text


def test_reports_are_linked_where_they_are(page):
    parsed, _ = page
    assert [link for link in parsed.links if not link.startswith("#")] == [
        "runs/noise/seed-1/report.html"
    ]


def test_cells_hold_what_the_table_sorts_by(page):
    parsed, _ = page
    assert parsed.cells["th"] == [ODD, "noise"]
    assert {"30.0", "14.0", "0.9"} <= set(parsed.cells["td"])
    assert "–" not in parsed.cells["td"]  # what is missing sorts as empty


def test_a_page_without_any_result_can_be_read(tmp_path):
    text = render(tmp_path, compare_runs([setting("a", tmp_path / "x")])).read_text()
    assert "nothing to compare" in text
    assert "<svg" not in text


def row(label, level, auc, *, defence="other", **more):
    return ComparisonRow(
        setting=setting(label, defence=defence), level=level, auc=auc, attack="standard",
        **{"psnr": more.get("psnr_worst")} | more,
    )  # fmt: skip


NONE = row(
    "none", Severity.VISIBLE, 0.95, defence="none", psnr_worst=52.5, limit=147.5, proved=0.75
)
OPEN = row("noise 3", Severity.OPEN, 0.95, psnr_worst=7.3, limit=30.7, bound_psnr_worst=30.7)
HELD = row(
    "much noise", Severity.PROTECTED, 0.94, psnr_worst=17.8, limit=18.3, bound_psnr_worst=18.3,
    prior_psnr=18.0, epsilon=1.0,
)  # fmt: skip


def test_an_attack_that_failed_recommends_nothing():
    said = summarise([NONE, OPEN])
    assert said == [
        "Shown to leak, for the server saw a patient’s X-ray: none (52.5 dB, proved of 75% of "
        "the images).",
        "“noise 3” is open: the attack got 7.3 dB, and up to 30.7 dB may be there. That is no "
        "evidence of safety.",
        "No setting is shown to protect.",
        "Without a defence the model’s AUC is 0.950.",
    ]


def test_only_what_an_upper_limit_protects_has_a_price():
    said = summarise([OPEN, HELD, NONE])
    assert said[2:] == [
        "“much noise” protects: no attacker is expected to exceed 18.3 dB; the mean public X-ray "
        "has 18.0 dB; it costs 0.010 of AUC.",
        "Without a defence the model’s AUC is 0.950.",
        "“much noise”: ε = 1; of what, and against whom, its run does not tell.",
    ]


def test_nothing_is_said_of_a_price_where_nothing_was_learnt():
    said = summarise([dataclasses.replace(NONE, auc=0.6), HELD])
    assert not [sentence for sentence in said if "AUC" in sentence]


def test_a_leak_in_part_says_how_much_more_may_be_there():
    said = summarise([
        row("signs", Severity.IDENTIFIABLE, 0.9, psnr_worst=19.3, limit=40.4),
        row("odd", Severity.TRACES, 0.9, psnr_worst=math.inf),
        row("by the posterior", Severity.PROTECTED, 0.9, psnr_worst=17.0, limit=18.0),
    ])  # fmt: skip
    assert said == [
        "“signs” leaks in part (patient re-identifiable): the attack got 19.3 dB, and up to "
        "40.4 dB may be there.",
        "“odd” leaks in part (traces of the patient): the attack got an exact copy, and how much "
        "may be there is not known.",
        "“by the posterior” protects: its updates tell an attacker nothing beyond public X-rays.",
    ]


def test_rows_are_shown_by_standing_and_open_ones_by_what_may_be_there():
    more = row("noise 1", Severity.OPEN, 0.95, psnr_worst=5.0, limit=37.0)
    endless = row("no bound", Severity.OPEN, 0.95, psnr_worst=4.0)
    shown = [one.label for one in ordered([HELD, OPEN, more, endless, NONE])]
    assert shown == ["none", "no bound", "noise 1", "noise 3", "much noise"]


@pytest.fixture
def judged(evaluated, tmp_path):
    """The page of a setting of each standing, and the text of its rows by label."""
    runs = {
        "safe": {"standard": [SAFE]},
        "noise 3": {"standard": [NOISE_3 | {"flags": ("below-mean",)}]},
        "none": {"standard": [COPY]},
    }
    rows = compare_runs([
        setting(label, evaluated(tmp_path / label, attacks), defence=label)
        for label, attacks in runs.items()
    ])  # fmt: skip
    text = render(tmp_path, rows).read_text(encoding="utf-8")
    body = text[text.index('id="table"') :]
    found = re.findall(r'<tr[^>]*data-filtered="settings".*?</tr>', body, re.S)
    return text, {label: one for one, label in zip(found, ["safe", "noise 3", "none"], strict=True)}


def test_only_a_protected_row_is_green_and_an_open_one_says_that_it_is_not_settled(judged):
    text, rows = judged
    for label, badge, said in (
        ("none", "l5", "settled: leaks"),
        ("noise 3", "l2", "not settled"),
        ("safe", "l1", "settled: protects"),
    ):
        assert f">{label}</a>" in rows[label]
        assert f'class="badge {badge}"' in rows[label]
        assert f'<span class="said">{said}</span>' in rows[label]
    assert 'class="badge l1"' not in rows["noise 3"] + rows["none"]
    assert "least leakage" not in text.lower()
    assert text.count("Below the mean image") == 2  # in the table of all figures, and explained
    assert "7.3 dB, bound 30.7 dB" in text


def test_the_chart_s_bars_of_open_settings_are_hollow_and_the_front_is_of_bounds(judged):
    text, _ = judged
    words = re.search(r'aria-label="(Leakage, from attack to bound[^"]*)"', text)[1]
    assert "2 noise 3: AUC 0.900, not settled, attack 7.3 dB, upper limit 30.7 dB;" in words
    assert words.endswith("upper limit 18.3 dB, on the Pareto front")
    assert words.count("on the Pareto front") == 1
    svg = text[text.index("<svg") : text.index("</svg>")]
    assert "open: not settled" in svg
    assert "fill: #ffffff; stroke: #4a5563" in svg
    assert "fill: #1d6b3c" in svg


def test_the_page_tells_what_was_examined(judged):
    assert (
        "Examined under every setting: 1 of 2 hospitals, 1 of 1 round, 1 image of 12 that the "
        "hospitals hold, 1 run." in judged[0]
    )


def test_there_is_no_front_of_models_that_have_not_learnt(evaluated, tmp_path):
    rows = compare_runs([setting("none", evaluated(tmp_path / "1", {"a": [COPY]}, auc=0.55))])
    text = render(tmp_path, rows).read_text(encoding="utf-8")
    assert "on the Pareto front" not in text
    assert "There is no Pareto front" in text


def test_bars_of_one_auc_stand_side_by_side():
    places = charts._apart([0.9, 0.5, 0.9, 0.9])
    step = charts._BESIDE * 0.4
    assert sorted(places)[1:] == pytest.approx([0.9 - step, 0.9, 0.9 + step])
    assert places[1] == 0.5
    assert charts._apart([0.1, 0.2]) == [0.1, 0.2]


@given(st.floats(-30, 400))
def test_the_axis_is_full_between_10_and_40_db_and_can_be_undone(value):
    there = charts._squeeze(np.array([value]))
    assert charts._stretch(there)[0] == pytest.approx(value, abs=1e-9)
    if 10 <= value <= 40:
        assert there[0] == value


def test_settings_stand_under_what_they_claim_and_do_not_mix(judged):
    text, _ = judged
    body = text[text.index('id="table"') :]
    places = [
        body.index(one)
        for one in ("Promises something against", ">safe</a>", "Hides something from",
                    ">noise 3</a>", "Does nothing against the server", ">none</a>")
    ]  # fmt: skip
    assert places == sorted(places)


GUARANTEE = {
    "delta": 1e-5, "neighbours": "add or remove one", "unit": "example", "accountant": "RDP",
    "rounds": 3, "against": "everyone who sees updates or models, the server included",
}  # fmt: skip
OTHERS = "those who see the released models alone, not the server"


@pytest.mark.parametrize(
    ("level", "guarantee", "defence", "name", "promise"),
    [
        (Severity.OPEN, Guarantee(epsilon=3.0, **GUARANTEE), {}, "dp-sgd", Promise.LIMIT),
        (Severity.OPEN, Guarantee(epsilon=5540.0, **GUARANTEE), {}, "dp-sgd", Promise.VEIL),
        (Severity.VISIBLE, Guarantee(epsilon=1.0, **GUARANTEE | {"against": OTHERS}), {},
         "central-dp", Promise.NOTHING),
        (Severity.PROTECTED, None, {}, "gaussian-noise", Promise.LIMIT),
        (Severity.OPEN, None, {}, "top-k", Promise.VEIL),
        (Severity.OPEN, None, {}, "none", Promise.NOTHING),
        (Severity.OPEN, None, {"alters_updates": False}, "of-a-plug-in", Promise.NOTHING),
    ],
)  # fmt: skip
def test_what_a_setting_claims_follows_from_limits_and_accounts(
    level, guarantee, defence, name, promise
):
    assert promise_of(level, guarantee, defence, name) is promise


def test_nothing_is_said_of_what_a_setting_claims_that_has_not_run(tmp_path):
    (row,) = compare_runs([
        ComparedSetting(label="x", defence="dp-sgd", parameters="",
                        runs=(Run(seed=1, path=tmp_path / "nowhere"),))
    ])  # fmt: skip
    assert (row.status, row.promise) == ("missing", Promise.UNKNOWN)


def test_nothing_is_ranked_across_different_data(evaluated, tmp_path):
    rows = compare_runs([
        setting(name, evaluated(tmp_path / name, {"a": [image]}, data={"name": name}), defence=name)
        for name, image in (("none", COPY), ("kermany", SAFE))
    ])  # fmt: skip
    text = render(tmp_path, rows).read_text(encoding="utf-8")
    assert "These runs are on different data, so nothing is ranked" in text
    assert "<svg" not in text
    assert "; it costs" not in text
    assert "Pareto" not in text.replace("no Pareto front", "")


def test_no_auc_is_told_of_fewer_than_thirty_images(evaluated, tmp_path):
    def auc(many):
        data = {"evaluated_on": "test", "test": many}
        path = evaluated(tmp_path / str(many), {"a": [SAFE]}, auc=0.8, data=data)
        return compare_runs([setting("s", path)])[0].auc

    assert (auc(29), auc(30)) == (None, 0.8)


def test_an_attack_that_had_not_finished_is_marked_and_out_of_the_front(evaluated, tmp_path):
    path = evaluated(tmp_path / "1", {"a": [SAFE | {"told": ("time-limit",)}]})
    rows = compare_runs([setting("s", path)])
    assert rows[0].unfinished
    assert pareto_front(rows) == set()
    assert "an attack was cut off" in render(tmp_path, rows).read_text(encoding="utf-8")


@given(st.floats(-20, 200), st.none() | st.floats(-20, 200))
def test_a_bar_lies_on_the_axis_from_attack_to_limit(reached, limit):
    bar = span_bar(reached, limit)
    assert 0 <= bar.start <= 100
    assert 0 <= bar.length <= 100 - bar.start + 1e-9
    assert bar.open_ended is (limit is None)


def test_the_axis_of_bars_is_widest_where_verdicts_differ():
    ticks = [place(tick) for tick in (0, 10, 20, 30, 40, 100)]
    widths = np.diff(ticks)
    assert ticks[0] == 0
    assert ticks[-1] == pytest.approx(100)
    assert widths[1] == pytest.approx(widths[2])
    assert widths[0] < widths[1] > widths[-1]
