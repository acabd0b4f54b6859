import math

import pytest

from adversary.report.leakage_rows import judged, points_to_patient
from adversary.report.summary import Share, of_folder, raised, summarise
from adversary.scoring.verdict import Severity
from adversary.storage.run_folder import RunFolder
from adversary.storage.schemas import LEAKAGE

ABOUT = {
    "clients": {f"client-{i:02d}": 200 if i else 174 for i in range(8)},
    "settings": {"rounds": 30},
    "data": {"private": 1600},
    "candidates": 1574,
}


def row(level=Severity.OPEN, *, round=1, client="client-03", image=0, status="ok", **figures):
    return dict.fromkeys(LEAKAGE) | {
        "round": round, "client": client, "attack": "standard", "image": image, "score": 1.0,
        "truth": f"{client}-{image}", "status": status, "level": level, **figures,
    }  # fmt: skip


def failed(**where):
    return row(Severity.UNKNOWN, status="failed", **where) | {"image": None, "truth": None}


def test_what_was_examined_is_told_of_how_many():
    rows = [row(image=i, psnr=9.0) for i in range(4)]
    assert summarise(rows, ABOUT).examined == (
        "1 of 8 hospitals", "1 of 30 rounds", "4 of 1,574 X-rays"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "about", "told"),
    [
        ([row()], {}, ("1 hospital", "1 round", "1 X-ray")),
        ([row(), row(round=2)], ABOUT, ("1 of 8 hospitals", "2 of 30 rounds", "1 of 1,574 X-rays")),
        ([row(client="aggregate")], ABOUT | {"threat": {"view": "aggregate"}},
         ("the mean update of 8 hospitals", "1 of 30 rounds", "1 of 1,574 X-rays")),
        ([row(), failed(client="b", round=2)], ABOUT,
         ("1 of 8 hospitals", "1 of 30 rounds", "1 of 1,574 X-rays")),
        ([row(truth=None)], ABOUT, ("1 of 8 hospitals", "1 of 30 rounds")),
        ([row(), row(round=2)], {"settings": {"rounds": 1}}, ("1 hospital", "2 rounds", "1 X-ray")),
    ],
)  # fmt: skip
def test_totals_are_told_where_they_are_known(rows, about, told):
    assert summarise(rows, about).examined == told


def test_a_share_of_something_else_is_not_told():
    assert [str(one) for one in (Share(3), Share(3, 4), Share(3, 2), Share(1200, 3000))] == [
        "3", "3 of 4", "3", "1,200 of 3,000"
    ]  # fmt: skip


def test_figures_count_what_they_say():
    rows = [
        row(Severity.VISIBLE, image=0, psnr=40.0, null_psnr=12.0, prior_psnr=18.0,
            expected_psnr=39.0,
            certificate="proved", reidentified=True, negative=False, flags="oracle"),
        row(Severity.IDENTIFIABLE, image=1, psnr=8.0, null_psnr=12.0, certificate="open",
            reidentified=False, negative=True, flags="below-mean;oracle"),
        row(Severity.OPEN, image=2, psnr=12.5, null_psnr=12.0, expected_psnr=13.0,
            certificate="proved", reidentified=False, negative=False),
        row(Severity.UNKNOWN, image=3),
    ]  # fmt: skip
    found = summarise(rows, ABOUT)
    assert str(found.certified) == "2 of 3"
    assert found.certificates == {"proved": 2, "open": 1}
    assert str(found.beyond_null) == "1 of 3"
    assert found.reidentified == pytest.approx(2 / 3)
    assert found.chance == 1 / 1574
    assert found.negatives == 1
    assert found.expected_psnr == 26.0
    assert (found.mean_prior_psnr, found.mean_null_psnr) == (18.0, 12.0)
    assert [(one.name, one.count) for one in found.flags] == [("oracle", 2), ("below-mean", 1)]
    line = found.line()
    assert line == (
        "verdict: Patient visible · worst image 40.0 dB, client-03 in round 1 by standard · "
        "2 of 3 proved by the attacker itself · examined: 1 of 8 hospitals, 1 of 30 rounds, "
        "4 of 1,574 X-rays · flags: oracle, below-mean"
    )


def test_a_line_of_a_run_without_truth_names_no_worst_image():
    line = summarise([row(Severity.UNKNOWN, truth=None, certificate="proved")], {}).line()
    assert line == (
        "verdict: Not measured · 1 of 1 proved by the attacker itself · examined: 1 hospital, "
        "1 round"
    )


def test_nothing_is_counted_where_nothing_is_known():
    found = summarise([row(psnr=9.0)], {})
    assert (found.certified, found.beyond_null, found.expected_psnr) == (None, None, None)
    assert (found.flags, found.negatives, found.reidentified) == ((), 0, None)


def test_an_unknown_flag_has_its_name_for_a_title():
    [one] = raised([row(flags="of-a-plugin")])
    assert (one.flag.title, one.flag.meaning) == ("of-a-plugin", "")


def test_the_bound_is_that_of_the_image_with_the_most_to_see():
    """Without those of which nothing limits an attacker: no figure stands for them."""
    bounds = [18.5, 31.0, None, 22.0, math.inf]
    rows = [row(image=i, psnr=9.0, bound_psnr=bound) for i, bound in enumerate(bounds)]
    assert summarise(rows, {}).bound == 31.0
    assert summarise(rows[2:3], {}).bound is None


@pytest.mark.parametrize("bound", [19.5, 22.0, 40.0])
def test_what_a_bound_means_allows_for_an_average(bound):
    meaning = summarise([row(psnr=9.0, bound_psnr=bound)], {}).bound_meaning
    assert "a few dB nearer" in meaning


def test_an_image_is_judged_by_its_most_revealing_attack():
    twice = [row(Severity.OPEN), row(Severity.VISIBLE)]
    assert judged(twice) is judged(twice[::-1]) is Severity.VISIBLE
    assert judged([row(Severity.PROTECTED), row(Severity.UNKNOWN)]) is Severity.PROTECTED
    assert judged([row(Severity.PROTECTED), failed()]) is Severity.PROTECTED


@pytest.mark.parametrize(
    "other", [failed(client="b"), failed(round=2), row(Severity.UNKNOWN, image=1), row(image=1)]
)
def test_nothing_is_protected_beside_what_is_not_known(other):
    assert judged([row(Severity.PROTECTED), other]) is Severity.OPEN
    assert summarise([row(Severity.PROTECTED, psnr=9.0), other], {}).level is Severity.OPEN


@pytest.mark.parametrize(
    ("reidentified", "negative", "points"),
    [(True, False, True), (False, True, True), (False, False, False), (None, None, None),
     (True, None, True)],
)  # fmt: skip
def test_a_negative_points_to_the_patient_as_well(reidentified, negative, points):
    assert points_to_patient({"reidentified": reidentified, "negative": negative}) is points


def test_masked_updates_are_no_part_of_a_run_s_summary(evaluated, tmp_path):
    seen = {"psnr": 12.0, "bound_psnr": 18.0, "certificate": "open"}
    copy = {"psnr": 50.0, "reidentified": True, "client": "client-00-masked"}
    alone, both = (
        of_folder(RunFolder.open(evaluated(tmp_path / name, {"standard": images})))
        for name, images in (("alone", [seen]), ("both", [seen, copy]))
    )
    assert both == alone
