import dataclasses
import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from adversary.common.results import Reconstruction
from adversary.common.truth import Blends, Truth
from adversary.priors.public import Prior
from adversary.report.flags import FLAGS
from adversary.scoring import image_scores, metrics
from adversary.scoring.image_scores import missing_scores, score_images
from adversary.scoring.verdict import LUCK, Evidence, Severity, severity_of


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def reconstruction(images, labels=None):
    labels = torch.zeros(len(images), dtype=torch.long) if labels is None else labels
    return Reconstruction(images=images, labels=labels, score=0.1, seconds=1.0, evaluations=3)


def truth(images, labels=None):
    labels = torch.zeros(len(images), dtype=torch.long) if labels is None else labels
    return Truth(images=images, labels=labels, names=tuple(f"p{i}" for i in range(len(images))))


def test_scores_follow_the_truths_order_and_carry_the_matched_labels():
    images = rand(3, 1, 16, 16)
    order = [2, 0, 1]
    scores = score_images(
        reconstruction((images + 0.01)[order], torch.tensor([12, 10, 11])),
        truth(images, torch.tensor([10, 11, 12])),
    )
    assert [s.image for s in scores] == [0, 1, 2]
    assert [s.truth for s in scores] == ["p0", "p1", "p2"]
    assert [s.reconstruction for s in scores] == [1, 2, 0]
    assert [s.label_recovered for s in scores] == [s.label_true for s in scores]
    assert scores[0].psnr == pytest.approx(40, abs=1e-3)


def test_values_are_those_of_the_metrics():
    images, others, public = rand(2, 1, 16, 16), rand(6, 1, 16, 16, seed=1), rand(4, 1, 16, 16)
    noisy = (images + 0.1 * rand(2, 1, 16, 16, seed=2)).clamp(0, 1)
    scores = score_images(
        reconstruction(noisy),
        truth(images),
        prior=Prior(public),
        candidates=torch.cat([others, images]),
        lpips=lambda a, b: torch.tensor([0.25, 0.5]),
    )
    baseline = metrics.ssim(public.mean(0, keepdim=True).expand(2, -1, -1, -1), images)
    expected_rdlv = metrics.rdlv(metrics.ssim(noisy, images), baseline)
    for i, s in enumerate(scores):
        assert s.mse == metrics.mse(noisy, images)[i].item()
        assert s.ssim == metrics.ssim(noisy, images)[i].item()
        assert s.fft2d == metrics.fft2d(noisy, images)[i].item()
        assert s.rdlv == expected_rdlv[i].item()
        assert s.rank == 1
        assert s.reidentified is True
    assert [s.lpips for s in scores] == [0.25, 0.5]


@pytest.mark.parametrize("spread", [0.3, 0.02])  # flat images are where float32 cancels most
def test_the_similarity_of_many_is_good_to_four_digits(spread):
    many = image_scores.MANY + 1
    images = 0.7 + spread * rand(many, 1, 16, 16)
    noisy = images + 0.01 * rand(many, 1, 16, 16, seed=2)
    scores = score_images(reconstruction(noisy), truth(images))
    exact = metrics.ssim(noisy, images)
    matched = [s.ssim for s in scores]
    assert matched == pytest.approx(exact.tolist(), abs=1e-4)
    assert matched != exact.tolist()  # it is float32's


def test_what_cannot_be_had_is_none():
    images = rand(2, 1, 16, 16)
    plain = score_images(reconstruction(images), truth(images))[0]
    assert (plain.lpips, plain.rdlv, plain.rank, plain.reidentified) == (None,) * 4
    broken = images.clone()
    broken[0] = torch.nan
    scored = score_images(reconstruction(broken), truth(images), candidates=images)[0]
    assert (scored.mse, scored.psnr, scored.ssim, scored.fft2d) == (None,) * 4
    assert scored.reidentified is False


def test_a_truth_without_reconstruction_still_has_its_row():
    images = rand(3, 1, 16, 16)
    scores = score_images(reconstruction(images[1:2]), truth(images), candidates=images)
    assert [s.reconstruction for s in scores] == [None, 0, None]
    assert scores[0].mse is None
    assert scores[0].label_true == "0"
    assert scores[0].label_recovered is None


def test_an_attack_that_gives_no_image_is_scored_without_values():
    images = rand(2, 1, 16, 16)
    scores = score_images(reconstruction(images[:0]), truth(images), prior=Prior(images))
    assert [(s.image, s.reconstruction, s.psnr) for s in scores] == [
        (0, None, None),
        (1, None, None),
    ]


def test_multi_label():
    images = rand(1, 3, 16, 16)
    labels = torch.tensor([[0.0, 1.0, 1.0]])
    scored = score_images(reconstruction(images, labels), truth(images, labels))[0]
    assert scored.label_true == scored.label_recovered == "0;1;1"


@pytest.mark.parametrize("wrong", ["prior", "candidates", "reconstruction"])
def test_shapes_that_differ_are_named(wrong):
    images, other = rand(1, 1, 16, 16), rand(1, 1, 8, 8)
    options = {"prior": {"prior": Prior(other)}, "candidates": {"candidates": other}}
    with pytest.raises(ValueError, match=rf"{wrong}.*\(1, 8, 8\)"):
        score_images(
            reconstruction(other if wrong == "reconstruction" else images),
            truth(images),
            **options.get(wrong, {}),
        )


def test_a_recovered_soft_label_reads_as_the_nearest_whole_one():
    images = rand(1, 1, 16, 16)
    found = reconstruction(images, torch.tensor([[0.9, 0.1, 0.6]]))
    assert (
        score_images(found, truth(images, torch.tensor([[1.0, 0.0, 1.0]])))[0].label_recovered
        == "1;0;1"
    )
    assert missing_scores(found)[0].label_recovered == "1;0;1"


def test_bounds_and_the_mean_image_follow_the_truth_and_what_is_expected_the_reconstruction():
    images, public = rand(3, 1, 16, 16), rand(4, 1, 16, 16, seed=1)
    order = [2, 0, 1]
    found = dataclasses.replace(
        reconstruction((images + 0.01)[order]), expected_psnr=(30.0, 10.0, float("nan"))
    )
    bounds = torch.tensor([50.0, 51.0, float("nan")])
    scores = score_images(found, truth(images), prior=Prior(public), bound_psnr=bounds)
    assert [s.reconstruction for s in scores] == [1, 2, 0]
    assert [s.bound_psnr for s in scores] == [50.0, 51.0, None]
    assert [s.expected_psnr for s in scores] == [10.0, None, 30.0]
    beside = metrics.psnr(public.mean(0, keepdim=True).expand_as(images), images)
    assert [s.prior_psnr for s in scores] == pytest.approx(beside.tolist())


def test_a_truth_without_reconstruction_has_what_needs_none():
    images = rand(2, 1, 16, 16)
    found = dataclasses.replace(reconstruction(images[1:]), expected_psnr=(7.0,))
    first, second = score_images(
        found, truth(images), prior=Prior(images), bound_psnr=torch.tensor([40.0, 41.0])
    )
    assert (first.psnr, first.bound_psnr, first.expected_psnr) == (None, 40.0, None)
    assert first.prior_psnr is not None
    assert first.flags == ()
    assert second.expected_psnr == 7.0


def test_what_an_attacker_expects_needs_no_truth():
    found = dataclasses.replace(reconstruction(rand(2, 1, 8, 8)), expected_psnr=(7.0, 8.0))
    assert [s.expected_psnr for s in missing_scores(found)] == [7.0, 8.0]
    short = dataclasses.replace(found, expected_psnr=(7.0,))  # an attack from outside may err
    assert [s.expected_psnr for s in missing_scores(short)] == [7.0, None]


def test_what_is_expected_of_a_blend_is_not_held_against_its_patients():
    images = rand(2, 1, 16, 16)
    blends = Blends(
        images=images.mean(0, keepdim=True),
        labels=torch.full((1, 2), 0.5),
        sources=torch.tensor([[0, 1]]),
        batches=(),
    )
    found = dataclasses.replace(reconstruction(blends.images), expected_psnr=(40.0,))
    seen = dataclasses.replace(truth(images), blends=blends)
    assert [s.expected_psnr for s in score_images(found, seen)] == [None, None]


def rdlv_by_skimage(image, truths, mean):
    def ssim(a, b):
        a, b = (np.pad(x, 10, mode="reflect") for x in (a, b))
        _, full = structural_similarity(
            a, b, data_range=1.0, full=True, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False,
        )  # fmt: skip
        return full[10:-10, 10:-10].mean()

    return np.mean([(ssim(image, t) - ssim(mean, t)) / ssim(mean, t) for t in truths])


@pytest.mark.parametrize("chunk", [metrics.CHUNK, 300])
def test_the_null_is_the_mean_beside_those_who_had_no_part(monkeypatch, chunk):
    monkeypatch.setattr(metrics, "CHUNK", chunk)
    base = rand(1, 1, 16, 16, seed=9)  # as X-rays do, all share something
    candidates = (0.7 * base + 0.3 * rand(7, 1, 16, 16)).float()
    mine, public = candidates[[4, 1]], Prior(0.7 * base + 0.3 * rand(3, 1, 16, 16, seed=5))
    noisy = (mine + 0.1 * rand(2, 1, 16, 16, seed=2)).clamp(0, 1)
    scores = score_images(reconstruction(noisy), truth(mine), prior=public, candidates=candidates)
    strangers = candidates[[0, 2, 3, 5, 6], 0].double().numpy()
    mean = public.mean[0, 0].double().numpy()
    for found, one in zip(noisy[:, 0].double().numpy(), scores, strict=True):
        psnr = -10 * np.log10(((found - strangers) ** 2).mean((1, 2)))
        assert one.null_psnr == pytest.approx(psnr.mean(), abs=1e-9)
        assert one.null_rdlv == pytest.approx(rdlv_by_skimage(found, strangers, mean), abs=1e-4)
        assert one.null_psnr < one.psnr


def test_the_null_of_many_is_sampled_the_same_way_each_time(monkeypatch):
    monkeypatch.setattr(image_scores, "NULL_SAMPLE", 10)
    candidates = 0.9 * rand(1, 1, 12, 12, seed=9) + 0.1 * rand(60, 1, 12, 12)
    found, mine = reconstruction(candidates[:1] * 0.9), truth(candidates[:1])
    options = {"prior": Prior(candidates[50:]), "candidates": candidates}
    first, again = (score_images(found, mine, **options)[0] for _ in range(2))
    assert first == again
    monkeypatch.setattr(image_scores, "NULL_SAMPLE", 59)
    whole = score_images(found, mine, **options)[0]
    assert whole.null_rdlv != first.null_rdlv
    assert whole.null_rdlv == pytest.approx(first.null_rdlv, abs=0.1)
    assert whole.null_psnr == first.null_psnr  # which is over all of them


def test_without_strangers_or_numbers_there_is_no_null():
    images = rand(2, 1, 16, 16)
    alone = score_images(
        reconstruction(images), truth(images), prior=Prior(images), candidates=images
    )
    assert [(s.null_psnr, s.null_rdlv) for s in alone] == [(None, None)] * 2
    assert [s.null_psnr for s in score_images(reconstruction(images), truth(images))] == [None] * 2
    broken = images.clone()
    broken[0, 0, 3, 3] = torch.nan
    more = torch.cat([images, rand(3, 1, 16, 16, seed=4)])
    scores = score_images(
        reconstruction(broken), truth(images), prior=Prior(images), candidates=more
    )
    assert [(s.null_psnr is None, s.null_rdlv is None) for s in scores] == [
        (True, True), (False, False)
    ]  # fmt: skip
    assert scores[0].flags == ()


def test_a_copy_of_a_stranger_counts_as_one_of_150_db():
    candidates = rand(3, 1, 16, 16)
    [one] = score_images(
        reconstruction(candidates[1:2]), truth(candidates[:1]), candidates=candidates
    )
    other = metrics.psnr(candidates[1:2], candidates[2:]).item()
    assert one.null_psnr == pytest.approx((150 + other) / 2, abs=1e-6)
    assert one.flags == ("null-as-good",)


def test_an_inverted_patient_is_told_by_the_negative():
    candidates = rand(9, 1, 16, 16)
    mine = truth(candidates[4:5])
    inverted = 1 - (0.7 * candidates[4:5] + 0.2)
    prior = Prior(rand(3, 1, 16, 16, seed=3))
    [one] = score_images(reconstruction(inverted), mine, prior=prior, candidates=candidates)
    assert (one.rank, one.reidentified, one.negative) == (9, False, True)
    assert severity_of(Evidence.of(dataclasses.asdict(one))) is Severity.IDENTIFIABLE
    [straight] = score_images(reconstruction(1 - inverted), mine, candidates=candidates)
    assert (straight.reidentified, straight.negative) == (True, False)


def test_a_picture_that_is_hardly_opposed_to_the_patient_is_no_negative():
    candidates = rand(2, 1, 16, 16)
    mine = candidates[:1]
    noise = rand(1, 1, 16, 16, seed=8)
    picture = 0.9 * noise + 0.1 * (1 - mine) + 0.05 * candidates[1:]
    [one] = score_images(reconstruction(picture), truth(mine), candidates=candidates)
    assert one.rank == 2
    assert metrics.identification_rank(1 - picture, mine, candidates).tolist() == [1]
    assert one.negative is False
    flat = score_images(
        reconstruction(torch.full_like(mine, 0.5)), truth(mine), candidates=candidates
    )
    assert flat[0].negative is False


def test_a_patient_alone_is_no_negative():
    mine = rand(1, 1, 16, 16)
    [one] = score_images(reconstruction(1 - mine), truth(mine), candidates=mine)
    assert (one.rank, one.negative) == (1, False)


GREY = torch.full((1, 1, 16, 16), 0.5)


@pytest.mark.parametrize(
    ("error", "bound", "oracles", "raised"),
    [
        (0.10, None, (), ()),  # as near as the mean, which is off by 0.1
        (0.102, None, (), ()),
        (0.103, None, (), ("below-mean",)),
        (0.1, 25.9, (), ()),
        (0.1, 26.0, (), ("bound-far-above",)),
        (0.1, float("inf"), (), ()),
        (0.1, None, ("labels known",), ("oracle",)),
        (0.2, 60.0, ("labels known",), ("oracle", "bound-far-above", "below-mean")),
    ],
)
def test_flags_that_the_truth_raises(error, bound, oracles, raised):
    bounds = None if bound is None else torch.tensor([bound])
    [one] = score_images(
        reconstruction(GREY.double() + error), truth(GREY), prior=Prior(GREY + 0.1),
        bound_psnr=bounds, oracles=oracles,
    )  # fmt: skip
    assert one.flags == raised
    assert set(one.flags) <= FLAGS.keys()


@pytest.mark.parametrize(("stranger", "raised"), [(0.11, ("null-as-good",)), (0.12, ())])
def test_a_picture_that_is_as_near_to_strangers_is_flagged(stranger, raised):
    candidates = torch.cat([GREY, GREY + 0.1 + stranger])
    [one] = score_images(reconstruction(GREY + 0.1), truth(GREY), candidates=candidates)
    assert one.flags == raised


def test_no_field_is_nan_without_prior_and_candidates():
    images = rand(2, 1, 16, 16)
    images[1] = torch.nan
    for one in score_images(reconstruction(images), truth(rand(2, 1, 16, 16))):
        values = dataclasses.asdict(one).values()
        assert not [value for value in values if isinstance(value, float) and value != value]


@pytest.mark.parametrize(("batch", "first"), [(1, 1), (8, 1), (8, 3), (8, 0)])
def test_chance_counts_how_many_of_an_update_come_first(batch, first):
    candidates = rand(40, 1, 16, 16)
    nobody = torch.full((batch - first, 1, 16, 16), 0.5)
    shown = torch.cat([candidates[:first], nobody])
    scores = score_images(reconstruction(shown), truth(candidates[:batch]), candidates=candidates)
    assert sum(one.reidentified for one in scores) == first
    by_chance = sum(
        math.comb(batch, k) * (1 / 40) ** k * (39 / 40) ** (batch - k)
        for k in range(first, batch + 1)
    )
    assert [one.rank_chance for one in scores] == pytest.approx([by_chance] * batch)


def test_what_matching_makes_of_pictures_of_nobody_is_put_down_to_chance():
    chances, first = [], 0
    for seed in range(8):
        candidates, noise = rand(120, 1, 8, 8, seed=seed), rand(40, 1, 8, 8, seed=100 + seed)
        mine = truth(candidates[:40])
        scores = score_images(reconstruction(noise), mine, candidates=candidates)
        first += sum(one.reidentified for one in scores)
        chances.append(scores[0].rank_chance)
        copies = reconstruction((candidates[:40] + 0.1 * noise).clamp(0, 1))
        told = score_images(copies, mine, candidates=candidates)
        assert told[0].rank_chance < 1e-6
    assert first > 8 * 3 * 40 / 120  # far more than guessing gives
    assert 0.2 < sum(chances) / 8 < 0.8
    assert sum(chance < LUCK for chance in chances) <= 2
