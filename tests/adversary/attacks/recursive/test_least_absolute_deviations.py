from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import random_array
from torch import nn
from torch.nn import functional

from adversary.attacks.recursive.least_absolute_deviations import (
    DENSE_ABOVE,
    curvature,
    least_absolute_deviations,
)
from adversary.optim.levenberg_marquardt import DescentOptions
from adversary.optim.search import Limits, Search
from adversary.priors.smooth import smooth_prior
from adversary.problem.sparse_jacobian import SparseJacobian

SHAPE = (1, 12, 12)


def smooth_image(seed):
    noise = torch.rand(1, 1, 3, 3, generator=torch.Generator().manual_seed(seed))
    return functional.interpolate(noise, size=(12, 12), mode="bicubic").clamp(0, 1).double()


def stem(seed, pooled):
    torch.manual_seed(seed)
    pool = nn.MaxPool2d(3, 2, 1) if pooled else nn.Identity()
    return nn.Sequential(nn.Conv2d(1, 96, 5, stride=2, padding=2), pool).double()


def explained(layer, outputs, on, **options):
    search = Search("test", 0, options.pop("limits", Limits()))
    prior = smooth_prior(SHAPE).to(dtype=torch.float64)
    jacobian = SparseJacobian(layer, prior.mean)
    steps = DescentOptions(iterations=options.pop("iterations", 80))
    found = least_absolute_deviations(
        jacobian, outputs, on, prior, search=search, options=steps, **options
    )
    return found.image, found.settled, search


def psnr(found, truth):
    return float(-10 * (found - truth).square().mean().log10())


@pytest.mark.parametrize("seed", range(3))
@torch.no_grad()
def test_the_image_of_rectified_and_pooled_outputs_is_found(seed):
    layer, image = stem(seed, pooled=True), smooth_image(seed)
    outputs = layer(image).relu()
    found, settled, search = explained(layer, outputs, outputs > 0)
    assert settled
    assert psnr(found, image) > 120
    scales = [step.score for step in search.history]
    assert scales[-1] < 1e-6 * scales[0]
    assert search.evaluations == len(scales) - 1


@torch.no_grad()
def test_gross_errors_of_a_few_outputs_do_not_count():
    layer, image = stem(5, pooled=False), smooth_image(5)
    outputs = layer(image)
    draw = torch.Generator().manual_seed(0)
    wrong = torch.rand(outputs.shape, generator=draw) < 0.05
    spoilt = torch.where(wrong, outputs + 3.0, outputs)
    found, _, _ = explained(layer, spoilt, torch.ones_like(wrong))
    assert psnr(found, image) > 60


@torch.no_grad()
def test_what_is_not_positive_is_only_known_to_be_so():
    layer, image = stem(6, pooled=False), smooth_image(6)
    outputs = layer(image)
    off = outputs <= 0
    found, _, _ = explained(layer, torch.where(off, 7.0, outputs), ~off)
    assert psnr(found, image) > 100


@torch.no_grad()
def test_limits_end_it_where_it_is():
    layer, image = stem(7, pooled=True), smooth_image(7)
    outputs = layer(image).relu()
    found, settled, search = explained(layer, outputs, outputs > 0, limits=Limits(evaluations=2))
    assert not settled
    assert search.stopped == "evaluations"
    assert search.evaluations == 2
    assert torch.isfinite(found).all()
    _, settled, search = explained(layer, outputs, outputs > 0, iterations=3)
    assert not settled
    assert search.evaluations == 3


@pytest.mark.parametrize("filled", [DENSE_ABOVE / 2, 2 * DENSE_ABOVE])
def test_normal_equations_are_the_same_however_many_entries_there_are(filled):
    draw = np.random.default_rng(0)
    rows = random_array((40, 30), density=filled, format="csr", rng=draw)
    weights = draw.random(40)
    expected = rows.toarray().T @ np.diag(weights) @ rows.toarray()
    np.testing.assert_allclose(curvature(rows, weights), expected, atol=1e-14)
