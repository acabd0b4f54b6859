from __future__ import annotations

import numpy as np
import pytest

from adversary.priors.covariance import shrunk_covariance


@pytest.mark.parametrize("count", [2, 3])
def test_of_few_images_the_variance_is_that_of_a_new_one_about_their_mean(count):
    """Whose own error is in it: 1 + 1/N times that of the images."""
    draws, told, seen = np.random.default_rng(count), [], []
    for _ in range(60):
        images = 0.5 + 0.1 * draws.standard_normal((count + 1, 1, 8, 8))
        mean, factor, diagonal = shrunk_covariance(images[:count], 5, 0)
        told.append(np.square(factor).sum() + diagonal.sum())
        seen.append(np.square(images[count] - mean).sum())
    expected = 64 * 0.1**2 * (1 + 1 / count)
    assert np.mean(seen) == pytest.approx(expected, rel=0.1)
    assert np.mean(told) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("count", [4, 6])
def test_the_share_of_the_samples_is_unbiased(count):
    """Of pixels that vary where no others do, which no stationary field explains."""
    draws, told = np.random.default_rng(0), []
    for _ in range(200):
        images = 0.5 + 0.001 * draws.standard_normal((count, 1, 4, 4))
        images[:, 0, [1, 2], [1, 3]] += 0.2 * draws.standard_normal((count, 2))
        _, factor, diagonal = shrunk_covariance(images, 16, 0)
        told.append(np.square(factor).sum() + diagonal.sum())
    assert np.mean(told) == pytest.approx(2 * 0.2**2, rel=0.12)
