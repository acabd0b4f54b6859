"""Laplace's approximation where the posterior is known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import truncnorm

from adversary import ThreatModel, TrainingRecipe
from adversary.attacks.certificates import Laplace, expected_psnr, prior_psnr
from adversary.attacks.certificates import posterior as module
from adversary.attacks.certificates.posterior import truncated
from adversary.priors.gaussian import GaussianPrior
from adversary.problem.linearised import Linearised
from adversary.problem.problem import build_problem
from adversary.problem.residuals import residuals

SIDE = 4
UNKNOWNS = SIDE * SIDE


def prior():
    draw = torch.Generator().manual_seed(2)
    factor = 0.05 * torch.randn(5, UNKNOWNS, generator=draw, dtype=torch.float64)
    mean = torch.full((1, 1, SIDE, SIDE), 0.5, dtype=torch.float64)
    return GaussianPrior(mean, factor, torch.full((UNKNOWNS,), 1e-3, dtype=torch.float64))


class Linear:
    """r = A x - b in units of its noise: residuals of no network."""

    def __init__(self, matrix, wanted, *, rounding=None):
        self.matrix, self.wanted, self.rounding = matrix, wanted, rounding
        self.picks = {"all": torch.arange(len(matrix))}

    def __call__(self, images):
        return self.matrix @ images.flatten() - self.wanted

    def __len__(self):
        return len(self.matrix)

    def noise_is_known(self, name, times):
        return self.rounding is None

    def single(self):
        return self

    def rows(self, images, chunk, mix=None):
        return torch.stack([mix(column) if mix else column for column in self.matrix.T])

    def forward(self, images, tangent):
        return self.matrix @ tangent.flatten()

    def pullback(self, images):
        return lambda vector: self.matrix.T @ vector

    def errors(self, images, count, seed=0):
        for draw in range(count):
            noise = torch.Generator().manual_seed(seed + draw)
            error = torch.randn(len(self.matrix), generator=noise, dtype=torch.float64)
            yield (1.0 if self.rounding is None else self.rounding) * error

    @property
    def counts(self):
        half = len(self.matrix) // 2
        return torch.tensor([half, len(self.matrix) - half])


def drawn(equations, seed, *, batch=1, precision=20.0):
    """Return images of the prior, a linear model, and what it gives of them with unit noise."""
    draw = torch.Generator().manual_seed(seed)
    known = prior()
    images = known.sample(batch, generator=draw)
    matrix = torch.randn(equations, images.numel(), generator=draw, dtype=torch.float64)
    matrix *= precision / math.sqrt(equations)
    noise = torch.randn(equations, generator=draw, dtype=torch.float64)
    return images, Linear(matrix, matrix @ images.flatten() + noise)


def covariance(linear, batch=1):
    precision = torch.block_diag(*[prior().precision()] * batch)
    return torch.linalg.inv(linear.matrix.T @ linear.matrix + precision)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_linear_model_has_its_own_covariance(batch):
    images, linear = drawn(40, 0, batch=batch)
    found = Laplace(linear, images, prior()).at()
    exact = covariance(linear, batch)
    assert found.psnr.tolist() == pytest.approx(
        [-10 * math.log10(float(part.mean())) for part in exact.diagonal().split(UNKNOWNS)],
        abs=0.05,  # what [0, 1] cuts off
    )
    told = float((exact @ linear.matrix.T @ linear.matrix).trace())
    assert found.parameters == pytest.approx(told)


def test_sums_of_many_equations_promise_no_more_than_all_of_them():
    """The inverse of a sketch is too large on average, by 36 % here, and that is allowed for."""
    shares = []
    for seed in range(40):
        images, linear = drawn(1000, seed)  # four sums an unknown are 64
        found = Laplace(linear, images, prior()).at()
        shares.append(float(found.variance.sum() / covariance(linear).diagonal().sum()))
    assert sum(shares) / len(shares) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("batch", [1, 2])
def test_what_each_array_determines_is_the_trace_of_its_own_rows(batch):
    images, linear = drawn(60, 0, batch=batch)
    exact = covariance(linear, batch)
    halves = linear.matrix.split(linear.counts.tolist())
    told = [float((part @ exact @ part.T).trace()) for part in halves]
    found = [Laplace(linear, images, prior()).at(seed=seed).by_array for seed in range(0, 400, 8)]
    assert torch.tensor(found).mean(0).tolist() == pytest.approx(told, rel=0.1)


def test_noise_taken_as_larger_weakens_the_equations_alone():
    images, linear = drawn(40, 0)
    warm = Laplace(linear, images, prior()).at(4.0)
    half = Linear(linear.matrix / 2, linear.wanted / 2)
    torch.testing.assert_close(warm.variance, Laplace(half, images, prior()).at().variance)
    with_nothing = Laplace(linear, images, prior()).at(1e12)
    assert with_nothing.psnr.item() == pytest.approx(prior_psnr(prior()), abs=0.3)
    assert with_nothing.parameters == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("equations", [40, 60])
def test_a_step_from_anywhere_leads_to_the_mean_of_the_posterior(equations):
    images, linear = drawn(equations, 1)
    known = prior()
    start = known.mean + 0.1 * torch.randn(
        known.mean.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64
    )
    pulled = linear.matrix.T @ linear.wanted + known.precision() @ known.mean.flatten()
    exact = (covariance(linear) @ pulled).view_as(images)
    found = Laplace(linear, start, known).at(steps=1)
    deviation = covariance(linear).diagonal().mean().sqrt()
    assert (found.images - exact).square().mean().sqrt() < 0.1 * deviation


@pytest.mark.parametrize("equations", [40, 60])
def test_the_expected_error_is_the_mean_error_over_draws(equations):
    errors, promised, inside = [], [], []
    for seed in range(150):
        images, linear = drawn(equations, seed)
        found = Laplace(linear, prior().mean, prior()).at(steps=1)
        errors.append(float((found.images - images).square().mean()))
        promised.append(float(found.variance.mean()))
        inside.append(abs(10 * math.log10(errors[-1] / promised[-1])) < float(found.spread))
    off = 10 * math.log10(np.mean(errors) / np.mean(promised))
    standard_error = 4.34 * np.std(np.array(errors) / np.array(promised)) / math.sqrt(len(errors))
    assert abs(off) < 3 * standard_error + 0.25
    assert np.mean(inside) > 0.96  # 99 % are expected; three standard errors


@pytest.mark.parametrize("rounding", [1.0, 30.0])
def test_simulated_rounding_and_the_prior_are_what_is_expected(rounding, monkeypatch):
    monkeypatch.setattr(module, "ROUNDING_DRAWS", 400)
    images, linear = drawn(40, 0)
    exact = covariance(linear)
    linear.rounding = rounding
    found = Laplace(linear, images, prior()).at()
    by_rounding = exact @ linear.matrix.T
    by_prior = exact @ prior().precision() @ exact
    expected = (rounding**2 * by_rounding.square().sum() + by_prior.trace()) / UNKNOWNS
    assert float(found.variance.mean()) == pytest.approx(float(expected), rel=0.15)
    if rounding == 1.0:  # white, and of the size that is said: the posterior's own
        assert float(expected) == pytest.approx(float(exact.trace()) / UNKNOWNS)


@pytest.mark.parametrize("precision", [1.0, 20.0, 300.0])
def test_the_share_of_the_prior_is_how_the_error_grows_with_its_variance(precision):
    """d log tr(C) / d log s, for precision P / s, by finite differences of the closed form."""
    images, linear = drawn(12, 5, precision=precision)
    own = prior()
    inverse = own.precision()

    def error(scale):
        return float(torch.linalg.inv(linear.matrix.T @ linear.matrix + inverse / scale).trace())

    expected = (math.log(error(1.001)) - math.log(error(0.999))) / math.log(1.001 / 0.999)
    found = [Laplace(linear, images, own).at(seed=seed).by_prior for seed in range(0, 1600, 8)]
    assert np.mean(found) == pytest.approx(expected, rel=0.1, abs=1e-3)
    assert error(4.0) <= (1 + 3 * expected) * error(1.0)


def test_a_linear_model_has_no_curvature_and_a_square_its_own():
    images, linear = drawn(30, 6)
    assert Laplace(linear, images, prior()).at().curvature < 1e-20

    class Bent(Linear):
        """r = A x - b + (c x)^2, in its first entry."""

        c = torch.linspace(1, 2, UNKNOWNS, dtype=torch.float64)
        first = torch.eye(30, dtype=torch.float64)[0]

        def __call__(self, images):
            return super().__call__(images) + (self.c @ images.flatten()) ** 2 * self.first

    draws = 0.1 * torch.randn(5, *images.shape, generator=torch.Generator().manual_seed(3))
    along = draws.double().flatten(1) @ Bent.c
    bent = Bent(linear.matrix, linear.wanted)
    found = module.curvature(
        bent, Linearised(bent, images), draws.double(), parameters=7.0, temperature=2.0
    )
    assert found == pytest.approx(float(along.pow(4).mean()) / 2 / 7)


def test_steps_end_where_the_next_moves_nothing():
    images, linear = drawn(40, 0)
    assert not Laplace(linear, images, prior()).at(steps=1).settled  # the noise moves it at first
    assert Laplace(linear, images, prior()).at(steps=3).settled


def test_without_memory_for_all_images_each_is_taken_given_the_others(monkeypatch):
    images, linear = drawn(60, 0, batch=2)
    together = Laplace(linear, images, prior())
    assert together.joint
    need = 8 * UNKNOWNS * (module.GROUPS_PER_UNKNOWN + 4) * UNKNOWNS
    monkeypatch.setattr(module, "MEMORY_BYTES", need)
    alone = Laplace(linear, images, prior())
    assert not alone.joint
    assert bool((alone.at().psnr >= together.at().psnr - 1e-6).all())
    monkeypatch.setattr(module, "MEMORY_BYTES", need - 1)
    with pytest.raises(ValueError, match="does not fit in memory"):
        Laplace(linear, images, prior())


def test_a_jacobian_that_is_not_finite_is_refused():
    images, linear = drawn(40, 0)
    linear.matrix[3, 3] = math.nan
    with pytest.raises(ValueError, match="not finite"):
        Laplace(linear, images, prior())


@pytest.mark.parametrize("mean", [-0.3, 0.0, 0.02, 0.5, 1.1])
@pytest.mark.parametrize("deviation", [0.01, 0.2, 3.0])
def test_truncated_moments_are_those_of_scipy(mean, deviation):
    exact = truncnorm((0 - mean) / deviation, (1 - mean) / deviation, mean, deviation)
    found, spread = truncated(
        *(torch.tensor([value], dtype=torch.float64) for value in (mean, deviation**2))
    )
    if -4 * deviation < mean < 1 + 4 * deviation:
        assert found.item() == pytest.approx(exact.mean(), abs=1e-6)
        assert spread.item() == pytest.approx(exact.var(), rel=1e-3)
    else:  # nearly all of it lies beyond an end
        assert found.item() == min(max(mean, 0.0), 1.0)
        assert 0 <= spread.item() <= deviation**2


def test_psnr_of_variances():
    variance = torch.stack([torch.full((1, 2, 2), 1e-2), torch.full((1, 2, 2), 1e-4)])
    assert expected_psnr(variance).tolist() == pytest.approx([20.0, 40.0])


def test_one_image_expanded_to_a_batch_is_led_on_like_any_other(tiny_net, update):
    recipe = TrainingRecipe(lr=0.1, batch_size=2)
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    model = tiny_net(seed=1)
    seen = update(model, images, torch.tensor([0, 1]), recipe)
    problem = build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8), dtype=torch.float64)
    equations = residuals(problem, problem.targets(torch.tensor([0, 1])), math.inf, 0)
    mean = torch.full((1, 1, 8, 8), 0.5, dtype=torch.float64)
    known = GaussianPrior(mean, torch.zeros(1, 64).double(), torch.full((64,), 0.05).double())
    expanded = Laplace(equations, mean.expand(2, 1, 8, 8), known).at(steps=1)
    repeated = Laplace(equations, mean.repeat(2, 1, 1, 1), known).at(steps=1)
    torch.testing.assert_close(expanded.images, repeated.images)
