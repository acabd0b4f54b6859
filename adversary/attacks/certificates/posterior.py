r"""The posterior of the images at an estimate, by Laplace's approximation.

With the residuals r(x) in units of the noise, their Jacobian J at the estimate and the prior's
precision P, the posterior covariance is C = (J^T J / T + P)^-1, with T >= 1 the variance by which
the noise is taken as larger than it is. Rounding is not independent from entry to entry: where it
is the noise, errors of it are simulated at the estimate, and what they and draws of the prior do to
the images is what is expected.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy
import torch
from torch import Tensor

from adversary.attacks.certificates.goodness import MIN_NOISE_TO_ROUNDING
from adversary.common.seeding import generator
from adversary.optim.conjugate_gradients import batched_conjugate_gradients
from adversary.optim.quadratic_models import count_sketch, symmetric_product
from adversary.priors.gaussian import GaussianPrior
from adversary.problem.linearised import Linearised
from adversary.problem.residuals import COLUMNS_PER_CHUNK, Residuals

GROUPS_PER_UNKNOWN = 4
"""Random groups of equations for each unknown, by which J^T J is estimated."""

MEMORY_BYTES = 6 * 2**30
"""What Jacobian and covariance may take together."""

CHUNK_BYTES = 2**29
"""What columns of the Jacobian worked out together may take, before their entries are summed."""

FLOAT32_CHI_SQUARE = 1e4
"""Chi-square from which an estimate is so far off that float32 serves for its Jacobian."""

ROUNDING_DRAWS = 8
"""Simulated errors of rounding."""

SOLUTION_ERROR, CG_ITERATIONS = 1e-3, 100
"""Mean squared error of a solution, in standard deviations of the posterior, and steps to it."""

MAP_STEPS = 4
"""With one Jacobian, to the most probable images."""

PRIOR_DRAWS = 2
"""Of the prior alone, for the share of the error that is in its hands."""

CONVERGED_STEP = 0.01
"""Mean squared step, in standard deviations of the posterior, from which an estimate is settled."""


@dataclass(frozen=True, kw_only=True)
class Posterior:
    """What an attacker expects of its estimate.

    Parameters
    ----------
    images : Tensor
        (B, C, H, W) in [0, 1]: the mean of each pixel within its range.
    variance : Tensor
        (B, C, H, W), the expected squared error of ``images``.
    parameters : float
        How many unknowns the update determines, of B C H W: tr(J^T J C) / T.
    estimate : Tensor
        (B, C, H, W), before pixels are kept within their range.
    by_array : tuple of float
        The same by array of the update, from the simulated errors: tr(J_i C J_i^T) / T of each.
    freedom : Tensor
        (B,), over how many directions the error of each image is spread: tr(C)^2 / tr(C^2). Of
        few, the squared error itself varies as chi-square of so many degrees of freedom.
    settled : bool
        Whether the estimate is the most probable one as far as the next step can tell.
    by_prior : float
        tr(C P C) / tr(C), estimated, 0 to 1 on average: the share of the expected squared error
        that grows with the variance of X-rays, because the update does not tell what it is in.
    curvature : float
        By how much residuals leave their linear course over the posterior's own spread: mean
        square of what remains, for each unknown that is determined. Far below 1 where the
        posterior is the normal distribution that it is taken for.
    """

    images: Tensor
    estimate: Tensor
    variance: Tensor
    parameters: float
    by_array: tuple[float, ...]
    freedom: Tensor
    settled: bool
    by_prior: float
    curvature: float

    @property
    def psnr(self) -> Tensor:
        """PSNR expected of each image, (B,), in dB."""
        return expected_psnr(self.variance)

    @property
    def spread(self) -> Tensor:
        """Most dB by which an image's PSNR lies off the expected one in 99 of 100, (B,)."""
        nu = self.freedom.double().cpu().numpy()
        low, high = (scipy.stats.chi2.ppf(tail, nu) / nu for tail in (0.005, 0.995))
        return torch.from_numpy(10 * np.maximum(np.log10(high), -np.log10(low)))


def expected_psnr(variance: Tensor) -> Tensor:
    """Return the PSNR in dB of images (B, C, H, W) with these expected squared errors, (B,)."""
    return -10 * variance.flatten(1).mean(1).clamp_min(1e-30).log10()


def prior_psnr(prior: GaussianPrior) -> float:
    """Return the PSNR in dB that the prior expects of its own mean."""
    return -10 * math.log10(float(prior.variance.mean()))


def fits(unknowns: int) -> bool:
    """Return whether the covariance of so many unknowns can be had in memory."""
    return 8 * unknowns * (GROUPS_PER_UNKNOWN + 4) * unknowns <= MEMORY_BYTES


class Laplace:
    """The posterior at an estimate, at any temperature; the Jacobian is worked out once.

    J^T J is estimated from random signed sums of all equations, which keeps its expectation; that
    the inverse of such an estimate is too large on average is corrected as for Gaussian sketches
    (Haff 1979: by (k - n - 1)/k of k sums for n unknowns). Where the covariance of all images is
    too large for memory it is that of each image given the others, which promises too much.

    Parameters
    ----------
    equations : Residuals
        In float64, calibrated near the estimate.
    images : Tensor
        (B, C, H, W), the estimate; not clamped.
    prior : GaussianPrior
        Of each image.

    Attributes
    ----------
    joint : bool
        Whether it is the covariance of all images together.

    Raises
    ------
    ValueError
        If the covariance cannot be had: memory, or a Jacobian that is not finite.
    """

    def __init__(self, equations: Residuals, images: Tensor, prior: GaussianPrior) -> None:
        images = images.contiguous()  # one image expanded to a batch is no place for tangents
        self.joint = fits(images.numel())
        self._size = images.numel() if self.joint else prior.size
        if not fits(self._size):
            raise ValueError(f"the covariance of {self._size} unknowns does not fit in memory")
        count = GROUPS_PER_UNKNOWN * self._size
        mix, bias = None, 1.0
        if len(equations) > count:
            mix = count_sketch(len(equations), count)
            bias = count / (count - self._size - 1)
        self._jacobian = Linearised(equations, images)
        self.residual = self._jacobian.value
        chunk = max(1, min(COLUMNS_PER_CHUNK, CHUNK_BYTES // (8 * len(equations))))
        self._known = all(
            equations.noise_is_known(name, MIN_NOISE_TO_ROUNDING) for name in equations.picks
        )
        if (
            self._known or float(self.residual.square().mean()) > FLOAT32_CHI_SQUARE
        ):  # above what float32 gets wrong
            rows = equations.single().rows(images.float(), chunk, mix).to(images)
        else:
            rows = equations.rows(images, chunk, mix)
        if not bool(torch.isfinite(rows).all()):
            raise ValueError("the Jacobian at the estimate is not finite")
        self.equations, self.images, self.prior = equations, images, prior
        self._blocks = [
            symmetric_product(part, prior.size).mul_(bias) for part in rows.split(self._size)
        ]
        self._precision = prior.precision()

    def at(self, temperature: float = 1.0, *, seed: int = 0, steps: int = 0) -> Posterior:
        """Return the posterior where the noise has ``temperature`` times its variance.

        Parameters
        ----------
        temperature : float
            T, >= 1.
        seed : int
            Of the simulated rounding.
        steps : int
            Of Gauss and Newton with the one Jacobian, at most, that lead from the estimate to the
            images; they end where the next moves them by less than :data:`CONVERGED_STEP`.

        Raises
        ------
        ValueError
            If the covariance is singular in float64.
        """
        size = self.prior.size
        factors, variances, squares, by_prior = [], [], [], 0.0
        for block in self._blocks:
            precision = block / temperature
            for i in range(0, self._size, size):
                precision[i : i + size, i : i + size] += self._precision
            factor, failed = torch.linalg.cholesky_ex(precision)
            if int(failed):
                raise ValueError("the posterior precision is singular")
            covariance = torch.cholesky_inverse(factor)
            for i in range(0, self._size, size):
                own = covariance[i : i + size, i : i + size]
                by_prior += float((own * self._precision).sum())
                squares.append(own.square().sum())
            factors.append(factor)
            variances.append(covariance.diagonal().clone())
        variance = torch.cat(variances).view_as(self.images)
        there, settled = self._moved(factors, temperature, steps)
        images = there.images
        draws, of_prior = self._drawn(factors, temperature, seed)
        each = draws.square().flatten(2).mean(2)  # (draws, B)
        within, spread = truncated(images, variance)
        parameters = images.numel() - by_prior
        nu = variance.flatten(1).sum(1).square() / torch.stack(squares)
        if not self._known:  # as many directions as the simulated errors vary by
            spread = each.mean(0).view(-1, 1, 1, 1).expand_as(spread)
            nu = nu.minimum(2 * each.mean(0).square() / each.var(0).clamp_min(1e-300))
        return Posterior(
            images=within.detach(),
            estimate=images.detach(),
            variance=spread.detach(),
            parameters=parameters,
            by_array=determined(self._jacobian, self.equations.counts, draws, temperature),
            freedom=nu.detach(),
            settled=settled,
            by_prior=share_of_prior(of_prior, torch.cat(variances)),
            curvature=curvature(self.equations, there, draws, parameters, temperature),
        )

    def _drawn(self, factors: list[Tensor], temperature: float, seed: int) -> tuple[Tensor, Tensor]:
        """Return errors of the estimate, simulated, and those of the prior's alone.

        Each (draws, B, C, H, W).

        What rounding e and a draw x of the prior leave: C (J^T e / sqrt(T) + P (x - mu)) has the
        posterior's covariance where e is white ("perturb and optimise", Papandreou and Yuille
        2010), and that of the errors as they are where it is not.
        """
        draw = generator(seed, "posterior")
        count = len(self.images)
        pulls, of_prior = [], []
        for error in self.equations.errors(self.images, ROUNDING_DRAWS, seed):
            away = (self.prior.sample(count, generator=draw) - self.prior.mean).flatten(1)
            pull = self._jacobian.pull(error) / temperature**0.5
            of_prior.append(self.prior.precision_matvec(away.to(pull)).flatten())
            pulls.append(pull + of_prior[-1])
        rows = torch.stack([*pulls, *of_prior[:PRIOR_DRAWS]])
        solved, _ = self._solved(factors, temperature, rows)
        solved = solved.view(-1, *self.images.shape)
        return solved[: len(pulls)], solved[len(pulls) :]

    def _moved(
        self, factors: list[Tensor], temperature: float, steps: int
    ) -> tuple[Linearised, bool]:
        """Return J where steps with the first lead, and whether the last of them moved little."""
        there = self._jacobian
        for _ in range(steps):
            away = (there.images - self.prior.mean).flatten(1)
            pull = there.pull(there.value / temperature)
            pull += self.prior.precision_matvec(away).flatten()
            step, solved = self._solved(factors, temperature, -pull[None])
            length = -float(step[0] @ pull)  # squared, in standard deviations of the posterior
            there = Linearised(self.equations, there.images + step.view_as(there.images))
            if length < CONVERGED_STEP * step.numel():
                return there, solved
        return there, False

    def _solved(
        self, factors: list[Tensor], temperature: float, rights: Tensor
    ) -> tuple[Tensor, bool]:
        """Return the covariance times rows b, (k, n), and whether that came to its end.

        By conjugate gradients with exact products, preconditioned by the factors of the sketch.
        """

        def product(vector: Tensor) -> Tensor:
            whitened = self.prior.precision_matvec(vector.view(-1, self.prior.size))
            image = self._jacobian.push(vector) / temperature
            return self._jacobian.pull(image) + whitened.flatten()

        def precondition(rows: Tensor) -> Tensor:
            parts = zip(rows.T.split(self._size), factors, strict=True)
            return torch.cat([torch.cholesky_solve(part, factor) for part, factor in parts]).T

        return batched_conjugate_gradients(
            lambda rows: torch.stack([product(row) for row in rows]),
            rights,
            precondition,
            enough=SOLUTION_ERROR * rights.shape[1],
            iterations=CG_ITERATIONS,
        )


@torch.no_grad()
def determined(
    jacobian: Linearised, counts: Tensor, draws: Tensor, temperature: float
) -> tuple[float, ...]:
    """Return how many unknowns each array determines, by draws of the posterior's covariance.

    tr(J_i C J_i^T) / T of the rows J_i of an array, as E |J_i d|^2 / T; at most its entries.

    Parameters
    ----------
    jacobian : Linearised
        J.
    counts : Tensor
        How many rows each array has.
    draws : Tensor
        (draws, B, C, H, W), errors d of the estimate.
    temperature : float
        T.
    """
    found = torch.zeros(len(counts), dtype=torch.float64)
    for draw in draws:
        parts = jacobian.push(draw.flatten()).square().split(counts.tolist())
        found += torch.stack([part.sum() for part in parts]).cpu().double()
    found /= len(draws) * temperature
    return tuple(found.minimum(counts.cpu().double()).tolist())


def share_of_prior(draws: Tensor, variance: Tensor) -> float:
    """Return tr(C P C) / tr(C) from what draws of the prior alone do to the estimate.

    Parameters
    ----------
    draws : Tensor
        (draws, ...), C P (x - mu) of images x of the prior.
    variance : Tensor
        Of every pixel; its sum is tr(C).
    """
    return float(draws.flatten(1).square().sum(1).mean() / variance.sum())


@torch.no_grad()
def curvature(
    equations: Residuals,
    jacobian: Linearised,
    draws: Tensor,
    parameters: float,
    temperature: float,
) -> float:
    """Return by how much residuals leave their linear course, for each determined unknown.

    Mean of |r(x + d) - r(x) - J d|^2 / T over draws d of the posterior, by ``parameters``.

    Parameters
    ----------
    equations : Residuals
        r.
    jacobian : Linearised
        Of r at images x.
    draws : Tensor
        (draws, B, C, H, W), d.
    parameters : float
        See :attr:`Posterior.parameters`.
    temperature : float
        T.
    """
    images, here = jacobian.images, jacobian.value
    beyond = [
        float((equations(images + d) - here - jacobian.push(d.flatten())).square().sum())
        for d in draws
    ]
    return sum(beyond) / len(beyond) / temperature / max(parameters, 1.0)


def truncated(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of normal values that are known to lie in [0, 1].

    Of each value by itself (Johnson, Kotz and Balakrishnan 1994, section 10.1). Where nearly all
    of the distribution lies beyond an end, that end, and its distance squared beside the variance
    of the tail.
    """
    deviation = variance.clamp_min(1e-30).sqrt()
    low, high = (0 - mean) / deviation, (1 - mean) / deviation
    standard = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    mass = standard.cdf(high) - standard.cdf(low)
    density_low, density_high = standard.log_prob(low).exp(), standard.log_prob(high).exp()
    shift = (density_low - density_high) / mass
    narrowed = 1 + (low * density_low - high * density_high) / mass - shift.square()
    inside = (mass > 1e-6) & torch.isfinite(shift)
    found = torch.where(inside, mean + deviation * shift, mean).clamp(0, 1)
    spread = torch.where(inside, variance * narrowed, variance)
    return found, spread.clamp(min=0).minimum(variance)
