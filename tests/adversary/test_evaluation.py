import pytest
import torch

from adversary import metrics
from adversary.evaluation import Truth, score
from adversary.priors import Prior
from adversary.reconstruction import Reconstruction


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
    scores = score(
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
    scores = score(
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


def test_what_cannot_be_had_is_none():
    images = rand(2, 1, 16, 16)
    plain = score(reconstruction(images), truth(images))[0]
    assert (plain.lpips, plain.rdlv, plain.rank, plain.reidentified) == (None,) * 4
    broken = images.clone()
    broken[0] = torch.nan
    scored = score(reconstruction(broken), truth(images), candidates=images)[0]
    assert (scored.mse, scored.psnr, scored.ssim, scored.fft2d) == (None,) * 4
    assert scored.reidentified is False


def test_a_truth_without_reconstruction_still_has_its_row():
    images = rand(3, 1, 16, 16)
    scores = score(reconstruction(images[1:2]), truth(images), candidates=images)
    assert [s.reconstruction for s in scores] == [None, 0, None]
    assert scores[0].mse is None
    assert scores[0].label_true == "0"
    assert scores[0].label_recovered is None


def test_an_attack_that_gives_no_image_is_scored_without_values():
    images = rand(2, 1, 16, 16)
    scores = score(reconstruction(images[:0]), truth(images), prior=Prior(images))
    assert [(s.image, s.reconstruction, s.psnr) for s in scores] == [
        (0, None, None),
        (1, None, None),
    ]


def test_multi_label():
    images = rand(1, 3, 16, 16)
    labels = torch.tensor([[0.0, 1.0, 1.0]])
    scored = score(reconstruction(images, labels), truth(images, labels))[0]
    assert scored.label_true == scored.label_recovered == "0;1;1"


@pytest.mark.parametrize("wrong", ["prior", "candidates", "reconstruction"])
def test_shapes_that_differ_are_named(wrong):
    images, other = rand(1, 1, 16, 16), rand(1, 1, 8, 8)
    options = {"prior": {"prior": Prior(other)}, "candidates": {"candidates": other}}
    with pytest.raises(ValueError, match=rf"{wrong}.*\(1, 8, 8\)"):
        score(
            reconstruction(other if wrong == "reconstruction" else images),
            truth(images),
            **options.get(wrong, {}),
        )
