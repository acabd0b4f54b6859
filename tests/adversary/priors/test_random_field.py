from __future__ import annotations

import pytest
import torch

from adversary.priors.gaussian import GaussianPrior
from adversary.priors.random_field import RandomField


def smooth(size, channels=1, seed=0):
    """Return the distribution of images of few waves, with a little of each pixel's own."""
    draw = torch.Generator().manual_seed(seed)
    waves = torch.linspace(0, torch.pi, size).mul(torch.arange(5)[:, None]).cos().double()
    images = torch.einsum("ia,jb->ijab", waves, waves).flatten(0, 1)[:, None]
    images = 0.05 * images.repeat(1, channels, 1, 1)
    mean = torch.rand(1, channels, size, size, generator=draw, dtype=torch.float64)
    pixels = channels * size * size
    return GaussianPrior(mean, images.flatten(1), torch.full((pixels,), 1e-4, dtype=torch.float64))


@pytest.mark.parametrize("channels", [1, 2])
def test_all_its_forms_are_one_matrix(channels):
    prior = smooth(6, channels)
    field, size = RandomField(prior), prior.size
    dense = torch.zeros(size, size, dtype=torch.float64)
    field.add(dense, 0.0)
    torch.testing.assert_close(dense, dense.T)
    vector = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(torch.from_numpy(field.sparse @ vector.numpy()), dense @ vector)
    torch.testing.assert_close(field.matvec(vector, 0.5), 1.5 * dense @ vector)
    torch.testing.assert_close(field.precondition(field.matvec(vector, 0.5), 0.5), vector)
    images = prior.mean + vector.view_as(prior.mean)
    assert field.value(images) == pytest.approx((vector @ dense @ vector).item())
    assert field.length(vector) == pytest.approx((vector @ dense @ vector).item() ** 0.5)
    torch.testing.assert_close(field.gradient(images), dense @ vector)


def test_it_keeps_the_variances_of_the_mean_and_of_neighbours_differences():
    prior = smooth(16)
    dense = torch.zeros(256, 256, dtype=torch.float64)
    RandomField(prior).add(dense, 0.0)
    covariance, wanted = torch.linalg.inv(dense), prior.covariance()
    assert covariance.mean().item() == pytest.approx(wanted.mean().item(), rel=1e-6)

    def differences(matrix):
        axes = matrix.view(16, 16, 16, 16)[4:12, 4:12, 4:12, 4:12].reshape(64, 64)
        diagonal = axes.diagonal()
        return diagonal[1:] + diagonal[:-1] - 2 * axes.diagonal(1)

    inner = torch.arange(63) % 8 != 7  # pairs in one row
    ratio = differences(covariance)[inner].mean() / differences(wanted)[inner].mean()
    assert 0.7 < ratio.item() < 1.4


def test_unknown_pixels_are_filled_with_their_mean_given_the_others():
    prior = smooth(8)
    dense = torch.zeros(64, 64, dtype=torch.float64)
    RandomField(prior).add(dense, 0.0)
    draw = torch.Generator().manual_seed(2)
    images = torch.rand(1, 1, 8, 8, generator=draw, dtype=torch.float64)
    unknown = torch.zeros(8, 8, dtype=torch.bool)
    unknown[2:5, 3:8] = True
    unknown = unknown.flatten()
    filled = RandomField(prior).filled(images, unknown).flatten()
    torch.testing.assert_close(filled[~unknown], images.flatten()[~unknown])
    covariance, mean = torch.linalg.inv(dense), prior.mean.flatten()
    cross = covariance[unknown][:, ~unknown]
    within = covariance[~unknown][:, ~unknown]
    away = (images.flatten() - mean)[~unknown]
    wanted = mean[unknown] + cross @ torch.linalg.solve(within, away)
    torch.testing.assert_close(filled[unknown], wanted)
