from __future__ import annotations

import dataclasses

import pytest
import torch
from PIL import Image

from adversary import AttackResult, Observation, Reconstruction, TrainingRecipe
from adversary.bounds.cramer_rao import BoundResult
from adversary.bounds.fisher_information import BCR, BoundError
from adversary.common.truth import Truth
from adversary.report import run_page
from adversary.report.ledger import Ledger, by_round
from adversary.scoring.image_scores import ImageScore
from adversary.scoring.scorer import ScoredResult, Scorer
from adversary.storage import csv_table
from adversary.storage.run_folder import RunFolder
from adversary.storage.schemas import LEAKAGE

IMAGES = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _no_perceptual_metric(monkeypatch):
    monkeypatch.setattr("adversary.scoring.scorer.load_lpips", lambda: (None, "not in this test"))


def observation(round=1):
    weights = {"w": torch.zeros(1)}
    recipe = TrainingRecipe(lr=1, batch_size=2)
    return Observation(
        round=round, client="client-00", sent=weights, returned=weights, num_examples=2,
        recipe=recipe,
    )  # fmt: skip


def outcome(attack="dlg"):
    found = Reconstruction(
        images=(IMAGES + 0.01).clamp(0, 1), labels=torch.tensor([0, 1]), score=0.1, seconds=1,
        evaluations=2,
    )  # fmt: skip
    return AttackResult(attack=attack, seconds=1, reconstruction=found)


def truth(_=None):
    return Truth(images=IMAGES, labels=torch.tensor([0, 1]), names=("a.png", "b.png"))


def a_bound(method="dense"):
    variance = torch.full((2, 1, 16, 16), 1e-4, dtype=torch.float64)
    variance[1, :, :8] = 3e-4
    error = torch.tensor([0.0, 0.25]) if method == "stochastic" else torch.zeros(2)
    return BoundResult(variance=variance, error=error, kind=BCR, method=method)


def ledger_of(tmp_path, bound):
    return Ledger(RunFolder.create(tmp_path / "run"), scorer=Scorer(truth=truth, bound=bound))


def test_the_bound_is_written_beside_each_attack_and_found_once_an_update(tmp_path):
    asked = []

    def bound(seen, images):
        assert torch.equal(images.images, IMAGES)
        asked.append(seen.round)
        return a_bound()

    ledger = ledger_of(tmp_path, bound)
    for round in (1, 2):
        for attack in ("dlg", "ing"):
            ledger.record_result(observation(round), outcome(attack))
    assert asked == [1, 2]
    leakage = ledger.folder.leakage()
    assert len(leakage) == 8
    assert leakage["bound_psnr"].tolist() == pytest.approx([40, 36.9897] * 4)
    assert ledger.errors == []


@pytest.mark.parametrize("method", ["dense", "stochastic"])
def test_the_map_is_saved_where_it_is_exact(tmp_path, method):
    ledger = ledger_of(tmp_path, lambda *_: a_bound(method))
    ledger.record_result(observation(), outcome())
    picture = ledger.folder.images(1, "client-00", "dlg") / "bound-01.png"
    assert picture.exists() == (method == "dense")
    if method == "dense":
        with Image.open(picture) as image:
            assert image.size == (16, 16)
            assert sum(image.getpixel((3, 2))) > sum(image.getpixel((3, 12)))


def test_the_report_shows_the_bound_and_how_it_was_found(tmp_path):
    ledger = ledger_of(tmp_path, lambda *_: a_bound("stochastic"))
    ledger.record_result(observation(), outcome())
    assert ledger.folder.info()["bound"] == {
        "kind": BCR, "method": "stochastic", "error": 0.25, "converged": True,
        "scopes": ["all images unknown"], "subject": "images",
    }  # fmt: skip
    page = run_page.render(ledger.folder).read_text(encoding="utf-8")
    assert "(bound 40.0 dB)" in page
    assert "Bayesian Cramér-Rao bound" in page
    assert "standard error of at most 0.25 dB" in page
    dense = ledger_of(tmp_path / "exact", lambda *_: a_bound())
    dense.record_result(observation(), outcome())
    page = run_page.render(dense.folder).read_text(encoding="utf-8")
    assert "least error of any attacker" in page
    assert "estimated" not in page


def test_an_update_without_a_bound_is_scored_all_the_same(tmp_path):
    def bound(seen, images):
        raise BoundError("no bound for 40 local steps")

    ledger = ledger_of(tmp_path, bound)
    told = ledger.record_result(observation(), outcome())
    assert told == "Patient visible · 2 images, mean 40.1 dB, worst 40.1 dB"
    assert ledger.folder.leakage()["bound_psnr"].isna().all()
    assert ledger.folder.info()["missing"]["bound_psnr"] == "no bound for 40 local steps"
    assert "no bound for 40 local steps" in run_page.render(ledger.folder).read_text(
        encoding="utf-8"
    )
    assert ledger.errors == []


def test_without_a_bound_the_run_says_that_it_was_not_asked_for(tmp_path):
    ledger = ledger_of(tmp_path, None)
    ledger.record_result(observation(), outcome())
    assert ledger.folder.leakage()["bound_psnr"].isna().all()
    assert ledger.folder.info()["missing"]["bound_psnr"] == "not asked for"


def test_oracles_of_an_attack_raise_their_flag(tmp_path):
    ledger = ledger_of(tmp_path, None)
    told = dataclasses.replace(outcome(), oracles=("labels known",))
    ledger.record_result(observation(), told)
    ledger.record_result(observation(2), outcome())
    assert ledger.folder.leakage()["flags"].fillna("").tolist() == ["oracle"] * 2 + [""] * 2


def test_the_threads_of_a_bound_are_those_asked_for():
    before, seen = torch.get_num_threads(), []

    def bound(*_):
        seen.append(torch.get_num_threads())
        return a_bound()

    Scorer(truth=truth, bound=bound, threads=before + 1).score(observation(), outcome())
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


def test_the_mean_psnr_is_over_the_images_that_have_one():
    images = torch.stack([IMAGES[0] + 0.1, torch.full_like(IMAGES[1], torch.nan)])
    found = dataclasses.replace(outcome().reconstruction, images=images)
    scored = Scorer(truth=truth).score(
        observation(), AttackResult(attack="dlg", seconds=1, reconstruction=found)
    )
    assert [one.psnr is None for one in scored.scores] == [False, True]
    assert scored.psnr == pytest.approx(20, abs=1e-4)


@pytest.mark.parametrize(
    ("scored", "told"),
    [
        (ScoredResult(outcome=AttackResult(attack="dlg", seconds=1, failure="no luck")),
         "failed: no luck"),
        (ScoredResult(outcome=outcome()), "done"),
        (ScoredResult(outcome=outcome(), without_images=True), "no image went into it"),
        (ScoredResult(outcome=outcome(),
                      scores=(ImageScore(image=0, reconstruction=0, truth="a"),)),
         "Not measured · no figure"),
        (ScoredResult(outcome=outcome(), scores=(
            ImageScore(image=0, reconstruction=0, truth="a", psnr=9.04, rdlv=0.0),)),
         "Open · 9.0 dB"),
        (ScoredResult(outcome=outcome(), scores=(
            ImageScore(image=0, reconstruction=0, truth="a", psnr=9.0, rdlv=0.0),
            ImageScore(image=1, reconstruction=1, truth="b", psnr=31.0))),
         "Patient visible · 2 images, mean 20.0 dB, worst 31.0 dB"),
    ],
)  # fmt: skip
def test_the_verdict_of_an_attack_in_a_few_words(scored, told):
    assert scored.verdict == told


def test_without_truth_the_verdict_is_what_the_attacker_states():
    found = dataclasses.replace(outcome().reconstruction, certificate="proved")
    told = ScoredResult(outcome=AttackResult(attack="dlg", seconds=1, reconstruction=found))
    assert told.verdict == "proved"


def test_loggers_hear_of_negatives_as_of_the_re_identified(tmp_path):
    rows = [{"reidentified": a, "negative": b} for a, b in
            ((True, False), (False, True), (False, False), (None, None))]  # fmt: skip
    folder = RunFolder.create(tmp_path / "run")
    where = {"round": 1, "client": "a", "attack": "dlg", "status": "ok"}
    csv_table.append(folder.path / "leakage.csv", LEAKAGE, [where | row for row in rows])
    assert by_round(folder.leakage())[1, "dlg"] == {"reidentified": pytest.approx(2 / 3)}
