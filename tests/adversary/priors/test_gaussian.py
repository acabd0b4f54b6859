from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.stats import multivariate_normal

from adversary.priors.covariance import QUANTISATION, shrunk_covariance
from adversary.priors.gaussian import GaussianPrior, PriorError
from adversary.priors.public import Prior

SHAPES = [(1, 4, 4), (1, 3, 5), (3, 4, 2)]


def a_prior(shape, rank=5, seed=0, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)
    n = int(np.prod(shape))
    return GaussianPrior(
        torch.rand(1, *shape, generator=draw).to(dtype),
        torch.randn(rank, n, generator=draw).to(dtype),
        (torch.rand(n, generator=draw) + 0.01).to(dtype),
    )


def smooth_field(count, shape, seed=0, length=1.5):
    """Draw from a stationary field with mirrored borders: blurred noise, on a grey ramp."""
    draw = np.random.default_rng(seed)
    blur = []
    for size in shape:
        at = np.arange(size)
        kernel = sum(
            np.exp(-0.5 * ((at[:, None] - image) / length) ** 2)
            for image in (at, -1 - at, 2 * size - 1 - at)
        )
        blur.append(kernel)
    field = draw.standard_normal((count, *shape))
    field = np.einsum("nchw,hi,wj->ncij", field, blur[-2], blur[-1])
    field *= 0.1 / field.std()
    return torch.from_numpy(field + np.linspace(0.3, 0.7, shape[-1]))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank", [1, 5, 40])
@pytest.mark.parametrize("seed", range(2))
def test_precision_and_covariance_against_dense(shape, rank, seed):
    prior = a_prior(shape, rank, seed)
    F, d = prior.factor.numpy(), prior.diagonal.numpy()
    dense = F.T @ F + np.diag(d)
    np.testing.assert_allclose(prior.covariance().numpy(), dense)
    np.testing.assert_allclose(prior.variance.numpy(), np.diag(dense))
    np.testing.assert_allclose(prior.precision().numpy(), np.linalg.inv(dense), atol=1e-9)
    v = np.random.default_rng(seed).standard_normal((3, len(d)))
    np.testing.assert_allclose(
        prior.precision_matvec(torch.from_numpy(v)).numpy(),
        np.linalg.solve(dense, v.T).T,
        atol=1e-9,
    )
    np.testing.assert_allclose(prior.covariance_matvec(torch.from_numpy(v)).numpy(), v @ dense)


@pytest.mark.parametrize("curvature", [0.0, 1e-3, 1.0, 1e8])
def test_what_data_leave_of_the_prior_against_dense(curvature):
    prior = a_prior((1, 4, 4))
    dense = np.linalg.inv(prior.precision().numpy() + curvature * np.eye(16))
    v = np.random.default_rng(0).standard_normal((3, 16))
    found = prior.posterior_covariance(curvature)(torch.from_numpy(v)).numpy()
    np.testing.assert_allclose(found, v @ dense, rtol=1e-6, atol=1e-9 * np.abs(dense).max())


@given(seed=st.integers(0, 2**32 - 1), rank=st.integers(1, 20), power=st.integers(-6, 2))
@settings(max_examples=25, deadline=None)
def test_whitened_images_have_the_mahalanobis_distance(seed, rank, power):
    prior = a_prior((1, 3, 4), rank, seed)
    prior = GaussianPrior(prior.mean, prior.factor, prior.diagonal * 10.0**power)
    images = torch.rand(5, 1, 3, 4, generator=torch.Generator().manual_seed(seed)).double()
    found = prior.whiten(images).square().sum(1)
    centred = (images - prior.mean).flatten(1)
    expected = (centred @ torch.linalg.inv(prior.covariance()) * centred).sum(1)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("rank", [2, 64])
def test_colouring_undoes_whitening(rank):
    public = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    prior = GaussianPrior.fit(public, rank=rank)
    images = torch.rand(2, 3, 1, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(prior.colour(prior.whiten(images)), images)


def test_whitening_is_the_inverse_square_root_of_the_scaled_covariance():
    prior = a_prior((1, 4, 4))
    root = prior.diagonal.sqrt()
    scaled = prior.covariance() / root / root[:, None]
    images = torch.rand(4, 1, 4, 4).double()
    expected = (images - prior.mean).flatten(1).numpy() / root.numpy()
    np.testing.assert_allclose(
        prior.whiten(images).numpy(), expected @ np.linalg.inv(sqrtm(scaled.numpy())), atol=1e-9
    )


@pytest.mark.parametrize("share", [1.0, 0.05])
@pytest.mark.parametrize("shape", SHAPES)
def test_samples_have_the_distribution_s_moments(shape, share):
    prior = a_prior(shape, rank=3)
    prior = GaussianPrior(prior.mean, share * prior.factor, prior.diagonal)
    drawn = prior.sample(40_000, generator=torch.Generator().manual_seed(1))
    assert drawn.shape == (40_000, *shape)
    flat = drawn.flatten(1).numpy()
    covariance = prior.covariance().numpy()
    deviation = np.sqrt(np.diag(covariance))
    assert np.abs((flat.mean(0) - prior.mean.flatten().numpy()) / deviation).max() < 0.03
    apart = (np.cov(flat.T) - covariance) / np.outer(deviation, deviation)
    assert np.abs(apart).max() < 0.05


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 6, 10), (3, 5, 5)])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 300])
def test_any_number_of_public_images_gives_a_usable_prior(shape, count):
    images = smooth_field(count, shape)
    prior = GaussianPrior.fit(images)
    torch.testing.assert_close(prior.mean, images.mean(0, keepdim=True))
    assert prior.diagonal.min() >= QUANTISATION
    eigenvalues = torch.linalg.eigvalsh(prior.covariance())
    assert eigenvalues.min() >= 0.99 * QUANTISATION
    if count > 1:  # the total variance is that of a new image about the mean
        expected = images.var(0).sum() * (1 + 1 / count)
        assert 0.5 < float(prior.variance.sum() / expected) < 1.5


@pytest.mark.parametrize("seed", range(3))
def test_four_images_of_a_smooth_field_tell_the_covariance_of_new_ones(seed):
    """The likelihood of new images is near that of the true model, and far above white noise."""
    shape = (1, 12, 12)
    new = smooth_field(200, shape, seed=100 + seed).flatten(1).numpy()
    prior = GaussianPrior.fit(smooth_field(4, shape, seed=seed))
    mean = prior.mean.flatten().numpy()
    learned = multivariate_normal(mean, prior.covariance().numpy()).logpdf(new).mean()
    white = np.eye(144) * float(prior.variance.mean())
    assert learned > multivariate_normal(mean, white).logpdf(new).mean() + 50
    mahalanobis = prior.whiten(torch.from_numpy(new).view(-1, *shape)).square().sum(1).mean() / 144
    assert 0.5 < float(mahalanobis) < 2


def test_many_images_give_their_own_covariance():
    """Not stationary, not isotropic: with enough images the samples rule."""
    draw = np.random.default_rng(0)
    mixing = draw.standard_normal((16, 16)) * 0.1
    images = torch.from_numpy(draw.standard_normal((6000, 16)) @ mixing).view(-1, 1, 4, 4)
    prior = GaussianPrior.fit(images)
    expected = mixing.T @ mixing
    assert np.abs(prior.covariance().numpy() - expected).max() < 0.06 * np.abs(expected).max()


@pytest.mark.parametrize("shape", [(1, 10, 10), (3, 6, 5)])
def test_a_low_rank_keeps_each_pixel_s_variance_and_the_largest_components(shape):
    images = smooth_field(6, shape)
    full = GaussianPrior.fit(images, rank=10**6)
    low = GaussianPrior.fit(images, rank=12)
    assert len(low.factor) == 12
    torch.testing.assert_close(low.variance, full.variance, rtol=1e-3, atol=2 * QUANTISATION)
    expected = torch.linalg.eigvalsh(full.factor.T @ full.factor).flip(0)[:12]
    found = low.factor.square().sum(1).sort(descending=True).values
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-9)


def test_small_images_keep_every_component_unless_fewer_are_asked_for():
    images = smooth_field(12, (1, 26, 26))
    every = GaussianPrior.fit(images, rank=26 * 26)
    torch.testing.assert_close(GaussianPrior.fit(images).covariance(), every.covariance())
    fewer = GaussianPrior.fit(images, rank=512)
    assert not torch.allclose(fewer.covariance(), every.covariance(), rtol=0, atol=1e-12)


def test_an_image_in_three_equal_channels_does_not_vary_between_them():
    images = smooth_field(5, (1, 6, 6)).expand(-1, 3, -1, -1)
    covariance = GaussianPrior.fit(images).covariance().view(3, 36, 3, 36)
    difference = (
        covariance[0, :, 0] - covariance[0, :, 1] - covariance[1, :, 0] + covariance[1, :, 1]
    )
    assert float(difference.diagonal().max()) < 5 * QUANTISATION
    assert float(covariance[0, :, 0].diagonal().min()) > 1e-3


def test_the_same_images_give_the_same_prior():
    images = smooth_field(5, (1, 9, 9)).numpy()
    first, again = (shrunk_covariance(images, rank=8, seed=3) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_saved_and_loaded(tmp_path):
    prior = GaussianPrior.fit(smooth_field(5, (1, 6, 6)), rank=7)
    prior.save(tmp_path / "priors" / "xrays.safetensors")
    loaded = GaussianPrior.load(tmp_path / "priors" / "xrays.safetensors")
    for name in ("mean", "factor", "diagonal"):
        assert torch.equal(getattr(prior, name), getattr(loaded, name))


@pytest.mark.parametrize("content", [None, b"", b"not a prior"])
def test_a_file_that_is_no_prior_is_named(tmp_path, content):
    path = tmp_path / "prior.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PriorError, match="prior.safetensors: not a saved prior") as error:
        GaussianPrior.load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("spoil", ["short", "zero", "negative"])
def test_arrays_that_do_not_fit_are_refused(tmp_path, spoil):
    path = tmp_path / "prior.safetensors"
    prior = a_prior((1, 4, 4))
    diagonal = prior.diagonal[:-1] if spoil == "short" else prior.diagonal.clone()
    if spoil != "short":
        diagonal[3] = 0.0 if spoil == "zero" else -0.1
    GaussianPrior(prior.mean, prior.factor, diagonal).save(path)
    with pytest.raises(PriorError, match="arrays do not fit"):
        GaussianPrior.load(path)


@pytest.mark.parametrize("shape", [(0, 1, 4, 4), (4, 4)])
def test_no_images_are_refused(shape):
    with pytest.raises(PriorError, match=r"need \(N, C, H, W\)"):
        GaussianPrior.fit(torch.rand(shape))


def test_a_rank_of_none_is_refused():
    with pytest.raises(PriorError, match="^rank = 0: must be >= 1$"):
        GaussianPrior.fit(torch.rand(4, 1, 4, 4), rank=0)


def test_another_precision_gives_the_same_products():
    prior = a_prior((1, 4, 4))
    v = torch.rand(2, 16)
    assert prior.to(dtype=torch.float32).precision_matvec(v).dtype == torch.float32
    torch.testing.assert_close(
        prior.to(dtype=torch.float32).precision_matvec(v).double(),
        prior.precision_matvec(v.double()),
        rtol=1e-3,
        atol=1e-3,
    )


def test_a_prior_learns_its_distribution_once():
    prior = Prior(smooth_field(4, (1, 6, 6)).float())
    assert prior.gaussian is prior.gaussian
    torch.testing.assert_close(prior.gaussian.mean, prior.mean.double())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("curvature", [1e-12, 1e-3, 1.0, 1e3, 1e15])
def test_the_diagonal_of_what_data_leave_is_that_of_its_map(shape, curvature):
    prior = a_prior(shape)
    precision = np.linalg.inv(prior.covariance().numpy())
    expected = np.diag(np.linalg.inv(precision + curvature * np.eye(prior.size)))
    np.testing.assert_allclose(prior.posterior_variance(curvature), expected, rtol=1e-7)
