from __future__ import annotations

import pytest
import torch

from adversary.attacks.encgrad.map_inversion import map_images
from adversary.priors.smooth import CHANNEL_CORRELATION, VARIANCE, smooth_covariance


def dense_covariance(shape):
    pixels = torch.Size(shape).numel()
    basis = torch.eye(pixels, dtype=torch.float64).view(pixels, *shape)
    return smooth_covariance(basis).reshape(pixels, pixels)


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 4, 6), (2, 5, 3)])
def test_the_prior_is_a_covariance_of_smooth_images(shape):
    P = dense_covariance(shape)
    torch.testing.assert_close(P, P.T)
    assert torch.linalg.eigvalsh(P).min() > 0
    assert P.trace() / len(P) == pytest.approx(VARIANCE)
    pixel = torch.arange(len(P)).view(shape)
    centre, near, far = pixel[0, 1, 1], pixel[0, 1, 2], pixel[0, -1, 1]
    assert P[centre, near] > P[centre, far] if shape[-2] > 3 else P[centre, near] > 0
    if shape[0] > 1:
        other = pixel[1, 1, 1]
        assert P[centre, other] / P[centre, centre] == pytest.approx(CHANNEL_CORRELATION)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_linear_encoder_gives_the_posterior_mean(seed):
    draw = torch.Generator().manual_seed(seed)
    shape, encoding = (2, 4, 4), 10
    J = torch.randn(encoding, 32, generator=draw, dtype=torch.float64)
    offset = torch.randn(encoding, generator=draw, dtype=torch.float64)
    h = torch.randn(3, encoding, generator=draw, dtype=torch.float64)
    deviation = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)
    centre = torch.rand(shape, generator=draw, dtype=torch.float64)
    images, misfit = map_images(lambda x: x.flatten(1) @ J.T + offset, h, deviation, centre)
    precision = torch.linalg.inv(dense_covariance(shape))
    for image, wanted, sigma in zip(images, h, deviation, strict=True):
        missing = wanted - J @ centre.flatten() - offset
        move = torch.linalg.solve(J.T @ J / sigma**2 + precision, J.T @ missing / sigma**2)
        torch.testing.assert_close(image.flatten(), centre.flatten() + move)
    left = (images.flatten(1) @ J.T + offset - h) / deviation[:, None]
    torch.testing.assert_close(misfit, left.square().mean(1).sqrt())


def test_rounds_settle_what_a_sigmoid_bends():
    draw = torch.Generator().manual_seed(2)
    J = torch.randn(8, 16, generator=draw, dtype=torch.float64)
    truth = torch.rand(2, 1, 4, 4, generator=draw, dtype=torch.float64)

    def encode(x):
        return torch.sigmoid(0.5 * (x - 0.5).flatten(1) @ J.T)

    deviation = torch.full((2,), 1e-6, dtype=torch.float64)
    centre = torch.full((1, 4, 4), 0.5, dtype=torch.float64)
    once = map_images(encode, encode(truth), deviation, centre, rounds=1)[1]
    often = map_images(encode, encode(truth), deviation, centre, rounds=30)[1]
    assert (often < once / 100).all()


def test_an_encoder_far_from_linear_leaves_the_centre():
    centre = torch.full((1, 2, 2), 0.5, dtype=torch.float64)

    def encode(x):  # turns round where its tangent points on
        return -((x - 0.49).flatten(1).square() * 1e4)

    wanted = torch.full((1, 4), 100.0, dtype=torch.float64)
    images, misfit = map_images(encode, wanted, torch.ones(1, dtype=torch.float64), centre)
    torch.testing.assert_close(images[0], centre)
    assert misfit[0] > 50
