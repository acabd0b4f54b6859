from __future__ import annotations

import pytest
import torch

from adversary.attacks.recursive.feature_inversion import OUTPUT_STD, invert_features
from adversary.optim.levenberg_marquardt import DescentOptions
from adversary.optim.search import Search
from adversary.priors.gaussian import GaussianPrior

SHAPE = (1, 5, 4)


def prior_and_layer(seed, outputs=60):
    draw = torch.Generator().manual_seed(seed)
    prior = GaussianPrior(
        torch.rand(1, *SHAPE, generator=draw).double(),
        torch.randn(3, 20, generator=draw).double() * 0.1,
        torch.rand(20, generator=draw).double() * 0.01 + 0.01,
    )
    matrix = torch.randn(outputs, 20, generator=draw).double()
    return prior, matrix, prior.sample(1, generator=draw)


@pytest.mark.parametrize("seed", range(3))
def test_of_linear_outputs_the_most_probable_image_has_a_closed_form(seed):
    prior, matrix, image = prior_and_layer(seed, outputs=12)
    outputs = (image.flatten(1) @ matrix.T).detach()
    everywhere = torch.ones_like(outputs, dtype=torch.bool)
    found = invert_features(
        lambda x: x.flatten(1) @ matrix.T,
        outputs,
        everywhere,
        prior,
        search=Search("test", 0),
        options=DescentOptions(iterations=500),
    )
    noise = (OUTPUT_STD * outputs.square().mean().sqrt()) ** 2
    covariance = prior.factor.T @ prior.factor + prior.diagonal.diag()
    mean = prior.mean.flatten()
    gain = (
        covariance
        @ matrix.T
        @ torch.linalg.inv(matrix @ covariance @ matrix.T + noise * torch.eye(12).double())
    )
    expected = mean + gain @ (outputs[0] - matrix @ mean)
    torch.testing.assert_close(found.image.flatten(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_outputs_that_are_off_tell_that_they_are(seed):
    prior, matrix, image = prior_and_layer(seed)
    outputs = image.flatten(1) @ matrix.T
    on = outputs > 0
    search = Search("test", 0)
    found = invert_features(
        lambda x: x.flatten(1) @ matrix.T,
        torch.where(on, outputs, 7.0),  # of no meaning where off
        on,
        prior,
        search=search,
        options=DescentOptions(iterations=300, restart=2),
    )
    before = float((prior.mean - image).norm())
    assert float((found.image - image).norm()) < 0.3 * before
    assert {step.restart for step in search.history} == {2}
