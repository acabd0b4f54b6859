import os
import time
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from adversary.scoring import metrics

SHARED = Path(os.environ.get("FL_SIM_SHARED", Path(__file__).parents[3] / ".." / "shared"))
SHAPES = [(3, 1, 32, 32), (2, 3, 24, 40), (1, 1, 64, 64)]


def pair(shape, seed):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(shape, generator=generator)
    noise = 0.2 * torch.randn(shape, generator=generator)
    return (truth + noise).clamp(0, 1), truth


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", [0, 1])
def test_mse_and_psnr_agree_with_skimage(shape, seed):
    images, truths = pair(shape, seed)
    for i in range(shape[0]):
        a, b = truths[i].double().numpy(), images[i].double().numpy()
        assert metrics.mse(images, truths)[i].item() == pytest.approx(mean_squared_error(a, b))
        assert metrics.psnr(images, truths)[i].item() == pytest.approx(
            peak_signal_noise_ratio(a, b, data_range=1.0)
        )


def test_psnr_closed_forms():
    truth = torch.full((1, 1, 8, 8), 0.5)
    assert metrics.psnr(truth + 0.1, truth).item() == pytest.approx(20.0, abs=1e-5)
    assert metrics.psnr(truth, truth).item() == float("inf")


@pytest.mark.parametrize("shape", SHAPES)
def test_ssim_agrees_with_skimage(shape):
    images, truths = pair(shape, 3)
    border = 10  # skimage mirrors its border differently: bring our own and cut it off again
    for i in range(shape[0]):
        a, b = (
            np.pad(x[i].double().numpy(), ((0, 0), (border,) * 2, (border,) * 2), mode="reflect")
            for x in (truths, images)
        )
        _, full = structural_similarity(
            a, b, data_range=1.0, channel_axis=0, full=True,
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        )  # fmt: skip
        expected = full[:, border:-border, border:-border].mean()
        assert metrics.ssim(images, truths)[i].item() == pytest.approx(expected, rel=1e-6)


def test_ssim_of_constant_images_is_its_luminance_term():
    a, b, c1 = 0.25, 0.75, 1e-4
    value = metrics.ssim(torch.full((1, 1, 16, 16), a), torch.full((1, 1, 16, 16), b))
    assert value.item() == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1), rel=1e-6)


@pytest.mark.parametrize("side", [1, 2, 5, 8, 10])
def test_ssim_of_images_smaller_than_its_window(side):
    images, truths = pair((2, 1, side, side), side)
    assert metrics.ssim(truths, truths).tolist() == pytest.approx([1, 1])
    window = side - 1 + side % 2
    if window < 3:  # scikit-image refuses it
        assert (metrics.ssim(images, truths) < 0.9999).all()
        return
    border = window // 2
    for i, value in enumerate(metrics.ssim(images, truths).tolist()):
        a, b = (np.pad(x[i, 0].double().numpy(), border, mode="reflect") for x in (truths, images))
        _, full = structural_similarity(
            a, b, data_range=1.0, full=True, win_size=window, use_sample_covariance=False
        )
        inner = full[border : border + side, border : border + side]
        assert value == pytest.approx(inner.mean(), rel=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_fft2d_agrees_with_numpy_in_float64(shape):
    images, truths = pair(shape, 5)
    for i in range(shape[0]):
        a, b = (np.fft.fft2(x[i].double().numpy()).ravel() for x in (images, truths))
        parts = [
            np.dot(p, q) / np.linalg.norm(p) / np.linalg.norm(q)
            for p, q in ((a.real, b.real), (a.imag, b.imag))
        ]
        assert metrics.fft2d(images, truths)[i].item() == pytest.approx(np.mean(parts))


def test_fft2d_of_constant_images():
    grey, black = torch.full((1, 1, 8, 8), 0.3), torch.zeros(1, 1, 8, 8)
    textured = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert metrics.fft2d(grey, 2 * grey).item() == pytest.approx(1.0)
    assert metrics.fft2d(black, black).item() == 1.0
    assert metrics.fft2d(black, textured).item() == 0.0


def test_rdlv():
    value = metrics.rdlv(torch.tensor([0.75, 0.5, 0.25, 0.9]), torch.tensor([0.5, 0.5, 0.5, -0.1]))
    assert value[:3].tolist() == [0.5, 0.0, -0.5]
    assert value[3].isnan()


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 5), seed=st.integers(0, 2**16), extra=st.integers(0, 2))
def test_match_undoes_a_shuffle_and_is_optimal(count, seed, extra):
    generator = torch.Generator().manual_seed(seed)
    truths = torch.rand(count, 1, 4, 4, generator=generator)
    noisy = truths + 0.3 * torch.randn(truths.shape, generator=generator)
    order = torch.randperm(count, generator=generator)
    pairing = metrics.match_images(noisy[order], truths)
    cost = ((noisy[order][None] - truths[:, None]) ** 2).mean((2, 3, 4))
    best = min(sum(cost[t, p[t]] for t in range(count)) for p in permutations(range(count)))
    assert sum(cost[t, pairing[t]] for t in range(count)).item() == pytest.approx(best.item())
    more = torch.cat([noisy, torch.full((extra, 1, 4, 4), 9.0)])
    assert sorted(metrics.match_images(more, truths)) == list(range(count))


def test_match_is_by_the_squares_of_the_distances():
    truths = torch.tensor([[0.0, 0.0], [1.0, 0.0]]).reshape(2, 1, 1, 2)
    found = torch.tensor([[1.0, 0.0], [1.5, 0.8]]).reshape(2, 1, 1, 2)
    # Squares are 1 + 0.89 against 0 + 2.89, distances 1 + 0.94 against 0 + 1.7.
    assert metrics.match_images(found, truths) == [0, 1]


def test_a_broken_reconstruction_is_left_over_where_there_is_another():
    truths = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1)
    for broken in (torch.nan, torch.inf):
        found = torch.tensor([broken, 1.0, -5.0]).reshape(3, 1, 1, 1)
        assert metrics.match_images(found, truths) == [2, 1]


def test_match_with_too_few_or_broken_reconstructions():
    truths = torch.stack([torch.full((1, 2, 2), v) for v in (0.0, 0.5, 1.0)])
    assert metrics.match_images(truths[[2, 0]], truths) == [1, None, 0]
    broken = truths.clone()
    broken[0], broken[1] = torch.nan, torch.inf
    assert metrics.match_images(broken, truths)[2] == 2
    assert metrics.match_images(broken[:0], truths) == [None] * 3


def test_rank_is_free_of_brightness_and_contrast():
    candidates = torch.rand(9, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    truths = candidates[[4, 7]]
    assert metrics.identification_rank(0.3 * truths + 0.6, truths, candidates).tolist() == [1, 1]
    assert metrics.identification_rank(1 - truths, truths, candidates).tolist() == [9, 9]
    assert metrics.identification_rank(candidates[[7, 4]], truths, candidates).min() > 1


@pytest.mark.parametrize("seed", range(3))
def test_equal_images_share_a_number_and_others_do_not(seed):
    draw = torch.Generator().manual_seed(seed)
    images = torch.rand(5, 1, 3, 4, generator=draw)
    images[4, 0, 2, 3] = torch.nan
    order = torch.randint(5, (12,), generator=draw)
    number = metrics.numbered(images[order])
    assert torch.equal(number[:, None] == number, order[:, None] == order)
    truths, candidates = images[:3], images[order]
    by_pixels = torch.stack([(t != candidates).flatten(1).any(1) for t in truths])
    assert torch.equal(metrics.is_other(truths, candidates), by_pixels)
    assert metrics.is_other(truths[:0], candidates).shape == (0, 12)


def test_rank_counts_a_tie_up_to_rounding_against_the_attacker():
    generator = torch.Generator().manual_seed(5)
    # Double, so that the copies are affine to rounding; of many some correlate a digit less.
    truths = torch.rand(20, 1, 8, 8, generator=generator, dtype=torch.float64)
    for truth in truths[:, None]:
        candidates = torch.cat([truth, 0.3 * truth + 0.6])
        image = truth + 0.1 * torch.rand(1, 1, 8, 8, generator=generator)
        assert metrics.identification_rank(image, truth, candidates).tolist() == [2]


def test_correlation_agrees_with_numpy_and_is_0_where_there_is_none():
    images, truths = pair((4, 2, 6, 6), 11)
    images[3] = 0.5
    images[2, 0, 0, 0] = torch.nan
    expected = [np.corrcoef(a.flatten(), b.flatten())[0, 1] for a, b in zip(
        images[:2].double().numpy(), truths[:2].double().numpy(), strict=True
    )]  # fmt: skip
    assert metrics.correlation(images, truths).tolist() == pytest.approx([*expected, 0, 0])


def test_mean_psnr_has_the_digits_of_near_copies():
    truth = torch.full((1, 1, 8, 8), 0.5, dtype=torch.float64)
    assert metrics.mean_psnr(truth + 1e-6, truth).item() == pytest.approx(120, abs=1e-3)
    assert metrics.mean_psnr(truth, truth[:0]).isnan().all()


def test_rank_agrees_with_numpy_corrcoef():
    generator = torch.Generator().manual_seed(2)
    candidates = torch.rand(12, 3, 6, 6, generator=generator)
    images = torch.rand(5, 3, 6, 6, generator=generator)
    flat = candidates.double().flatten(1).numpy()
    for i, value in enumerate(
        metrics.identification_rank(images, candidates[:5], candidates).tolist()
    ):
        r = np.corrcoef(images[i].double().flatten().numpy(), flat)[0, 1:]
        assert value == 1 + int((r > r[i]).sum())


def test_rank_of_a_reconstruction_without_information_is_last():
    candidates = torch.rand(7, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    empty = torch.stack([torch.full((1, 8, 8), 0.1), torch.full((1, 8, 8), torch.nan)])
    assert metrics.identification_rank(empty, candidates[:2], candidates).tolist() == [7, 7]


def test_rank_by_chance_is_uniform():
    generator = torch.Generator().manual_seed(4)
    candidates = torch.rand(10, 1, 8, 8, generator=generator)
    truths = candidates[torch.arange(2000) % 10]
    ranks = metrics.identification_rank(
        torch.rand(2000, 1, 8, 8, generator=generator), truths, candidates
    )
    assert (ranks == 1).double().mean().item() == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("value", [0.0, 1.0, torch.nan, torch.inf])
@pytest.mark.parametrize("name", ["mse", "psnr", "ssim", "fft2d"])
def test_constant_and_non_finite_images_give_a_value_or_nan(name, value):
    truths = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    images = truths.clone()
    images[1] = value
    result = getattr(metrics, name)(images, truths)
    assert result.shape == (2,)
    assert result.dtype == torch.float64
    assert torch.equal(result[:1], getattr(metrics, name)(images[:1], truths[:1]))


@pytest.fixture
def lpips(monkeypatch):
    weights = SHARED / "weights"
    if not weights.exists():
        pytest.skip(f"no LPIPS weights at {weights}")
    monkeypatch.setenv("TORCH_HOME", str(weights))
    metrics.load_lpips.cache_clear()
    metric, reason = metrics.load_lpips()
    yield metric or pytest.fail(reason)
    metrics.load_lpips.cache_clear()


def test_lpips_agrees_with_torchmetrics(lpips):
    from torchmetrics.functional.image import learned_perceptual_image_patch_similarity

    images, truths = pair((3, 3, 40, 40), 7)
    expected = learned_perceptual_image_patch_similarity(
        images, truths, net_type="squeeze", normalize=True, reduction="none"
    )
    torch.testing.assert_close(lpips(images, truths), expected.double(), rtol=1e-5, atol=1e-6)
    grey = lpips(images[:, :1], truths[:, :1])
    three = lpips(images[:, :1].repeat(1, 3, 1, 1), truths[:, :1].repeat(1, 3, 1, 1))
    torch.testing.assert_close(grey, three)


def test_lpips_of_small_odd_and_broken_images(lpips):
    images, truths = pair((2, 1, 8, 8), 8)
    assert lpips(truths, truths).tolist() == pytest.approx([0, 0], abs=1e-6)
    assert (lpips(images, truths) > 0).all()
    assert lpips(torch.full_like(images, torch.nan), truths).isnan().all()
    assert lpips(*pair((2, 2, 20, 20), 9)).isnan().all()


def test_the_trunk_of_lpips_is_torchvision_s():
    from torchvision.models import SqueezeNet1_1_Weights

    assert SqueezeNet1_1_Weights.DEFAULT.url == metrics.LPIPS_TRUNK


@pytest.mark.parametrize("outcome", ["refused", "hangs"])
def test_lpips_without_weights_gives_a_reason_within_seconds(monkeypatch, tmp_path, outcome):
    def download(*_args, **_options):
        if outcome == "hangs":
            time.sleep(3)
        raise OSError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    metrics.load_lpips.cache_clear()
    started = time.perf_counter()
    metric, reason = metrics.load_lpips(0.2)
    metrics.load_lpips.cache_clear()
    assert metric is None
    assert ("no route" if outcome == "refused" else "did not answer within 0.2 s") in reason
    assert time.perf_counter() - started < 2.5


def test_damaged_lpips_weights_give_a_reason(monkeypatch, tmp_path):
    file = tmp_path / "hub" / "checkpoints" / "squeezenet1_1-b8a52dc0.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"not weights")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    metrics.load_lpips.cache_clear()
    metric, reason = metrics.load_lpips()
    metrics.load_lpips.cache_clear()
    assert metric is None
    assert "cannot be read" in reason
