from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch.func import jacfwd, vjp

from adversary.attacks.gauss_newton.region_swaps import (
    candidate_swaps,
    regions,
    resolve_swaps,
    same_label_pairs,
    smoothed,
    with_region_swapped,
)
from adversary.optim.levenberg_marquardt import DescentOptions, Iterate, LevenbergMarquardt
from adversary.optim.prior_terms import GaussianTerm
from adversary.optim.quadratic_models import DenseModel
from adversary.optim.search import Search
from adversary.priors.smooth import smooth_prior

SIDE = 12


class Neighbours:
    """Images of one label as an update tells them: their sum, and what binds neighbours.

    The second order is the product of the difference at neighbouring pixels, and of each with
    itself. The interface is that of residuals.
    """

    def __init__(self, truth, sigma=1e-6):
        self.sigma = sigma
        self.targets = torch.zeros(len(truth), 2)
        self.shape = truth.shape
        self.wanted = self._told(truth)

    def _told(self, x):
        told = [x.sum(0).flatten()]
        for a, b in combinations(range(len(x)), 2):
            d = x[a] - x[b]
            across, down = d[..., 1:] * d[..., :-1], d[..., 1:, :] * d[..., :-1, :]
            told += [d.square().flatten(), across.flatten(), down.flatten()]
        return torch.cat(told)

    def __call__(self, x):
        return (self._told(x) - self.wanted) / self.sigma

    def __len__(self):
        return len(self.wanted)

    def rows(self, x, chunk):
        return jacfwd(self)(x).flatten(1).T

    def bend(self, x, v):
        return (self(x + 0.1 * v) - 2 * self(x) + self(x - 0.1 * v)) / 0.01

    def pullback(self, x):
        pull = vjp(self, x)[1]
        return lambda u: pull(u)[0].flatten()


def islands(seed=0, batch=2):
    """Images that differ in two places, far from each other."""
    draw = torch.Generator().manual_seed(seed)
    images = smooth_prior((1, SIDE, SIDE)).sample(1, generator=draw).repeat(batch, 1, 1, 1)
    far = torch.arange(SIDE).double()
    for i, (row, column) in enumerate(((2.0, 3.0), (8.5, 9.0))):
        hill = torch.exp(-((far[:, None] - row).square() + (far - column).square()) / 8)
        images[0] += 0.3 * (-1) ** i * hill
    return images


def away(images, truth):
    """Largest error, whichever image is which."""
    return min(float((images - truth).abs().max()), float((images.flip(0) - truth).abs().max()))


def cost(place, prior):
    return place.cost(GaussianTerm(prior), place.temperature)


@pytest.mark.parametrize("width", [1.0, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_every_pixel_is_of_one_region(seed, width):
    draw = torch.Generator().manual_seed(seed)
    found = regions(torch.randn(3, 9, 14, generator=draw), width)
    assert torch.equal(torch.stack(found).sum(0), torch.ones(9, 14, dtype=torch.long))


def test_every_hill_of_a_difference_is_a_region_whatever_its_sign():
    images = islands()
    found = regions(images[0] - images[1], 1.0)
    assert len(found) == 2
    assert [bool(r[2, 3]) for r in found] == [True, False]
    assert [bool(r[8, 9]) for r in found] == [False, True]


def test_smoothing_keeps_a_flat_image_and_shares_a_point_like_a_normal_distribution():
    flat = torch.full((2, 8, 9), 0.3, dtype=torch.float64)
    torch.testing.assert_close(smoothed(flat, 1.5), flat)
    point = torch.zeros(1, 41, 41, dtype=torch.float64)
    point[0, 20, 20] = 1
    away = torch.arange(41).double() - 20
    for width in (1.0, 2.0):
        row = smoothed(point, width)[0].sum(0)
        assert abs(float((row * away.square()).sum()) - width**2) < 0.05 * width**2


def test_an_exchange_keeps_the_sum_and_undoes_itself():
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(3, 2, 6, 6, generator=draw)
    region = torch.rand(6, 6, generator=draw) > 0.5
    after = with_region_swapped(images, 0, 2, region)
    torch.testing.assert_close(after.sum(0), images.sum(0))
    assert torch.equal(after[1], images[1])
    assert torch.equal(after[0][:, region], images[2][:, region])
    assert torch.equal(with_region_swapped(after, 0, 2, region), images)


def test_only_images_of_one_label_are_paired():
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.5, 0.5], [1.0, 0.0]])
    assert list(same_label_pairs(targets)) == [(0, 2), (0, 4), (2, 4)]


def test_the_region_that_was_taken_wrong_is_the_softest():
    truth = islands()
    equations = Neighbours(truth)
    wrong = with_region_swapped(truth, 0, 1, regions(truth[0] - truth[1], 1.0)[1])

    def misfit(x):
        return float(equations(x).square().mean())

    found = candidate_swaps(misfit, wrong, equations.targets)
    assert found[0].stiffness == min(one.stiffness for one in found)
    after = found[0].of(wrong)
    assert misfit(after) < misfit(wrong)
    assert away(after, truth) < 0.02


def descent_of(equations, prior, search=None, **options):
    options = DescentOptions(iterations=30, **options)
    search = search or Search("test", 0)
    return LevenbergMarquardt(equations, GaussianTerm(prior), DenseModel, search, options)


@pytest.mark.parametrize("seed", range(3))
def test_a_descent_does_not_leave_a_wrong_minimum_and_an_exchange_does(seed):
    truth, prior = islands(seed), smooth_prior((1, SIDE, SIDE))
    equations = Neighbours(truth)
    wrong = with_region_swapped(truth, 0, 1, regions(truth[0] - truth[1], 1.0)[1])
    residual = equations(wrong)
    place = Iterate(wrong, residual, float(residual.square().mean()))
    descent = descent_of(equations, prior)
    stuck = descent.minimise(place)
    assert away(stuck.images, truth) > 0.1
    found = resolve_swaps(descent_of(equations, prior, descent.search, target=2.0), stuck)
    assert away(found.images, truth) < 0.02
    assert cost(found, prior) < cost(stuck, prior)


def test_the_true_images_are_kept_and_rivals_given_up_early():
    truth, prior = islands(), smooth_prior((1, SIDE, SIDE))
    equations = Neighbours(truth)
    place = Iterate(truth, equations(truth))
    descent = descent_of(equations, prior)
    assert resolve_swaps(descent, place) is place
    assert len(descent.search.history) <= 3 * 8


def test_where_no_labels_are_shared_there_is_nothing_to_exchange():
    equations = Neighbours(islands())
    equations.targets = torch.eye(2)
    place = Iterate(islands(), equations(islands()))
    descent = descent_of(equations, smooth_prior((1, SIDE, SIDE)))
    assert resolve_swaps(descent, place) is place
    assert descent.search.evaluations == 0
