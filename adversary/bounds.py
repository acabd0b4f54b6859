"""What any attacker can reach: Cramer-Rao bounds at the true images, for scoring alone.

With J the Jacobian of the observed gradient in the pixels, Sigma the noise of the observation and
P the precision of the prior, the covariance of an error is at least

* ``(J^T Sigma^-1 J)^-1`` for every unbiased attacker at the given images (Cramer-Rao),
* ``(J^T Sigma^-1 J + P)^-1`` with a prior (Bayesian Cramer-Rao). For an attacker of any kind this
  holds on average over the prior's images; for one image it is the local posterior variance
  (Laplace's approximation), which an attacker with luck may undercut.

Both are theorems for Gaussian noise and near the truth. Rounding is not Gaussian: at the level of
float32 they are a very good guide. Labels are given, which makes the attacker no weaker.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.func import jvp, vjp, vmap

from adversary.evaluation import Truth
from adversary.observation import StateDict
from adversary.priors import GaussianPrior
from adversary.problem import Problem
from adversary.readings import UNROLLED_STEPS, unrolled
from adversary.residuals import jacobian
from adversary.seeding import generator

MEMORY_BYTES = 4 * 2**30
"""Most memory that a dense bound may take."""

CHUNK = 64
"""Directions that are sent through the model together."""

CR, BCR = "Cramer-Rao", "Bayesian Cramer-Rao"


class BoundError(RuntimeError):
    """An update that no bound can be given for; one line says why."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a bound may cost.

    Parameters
    ----------
    method : {"auto", "dense", "stochastic"}
        Exact, or estimated from random probes; auto is dense where memory allows.
    probes : int
        Random vectors of the estimate, >= 2.
    tolerance : float
        Conjugate gradients end when ten iterations have lowered the PSNR by less than this share
        of its mean squared error: 0.01 is 0.04 dB.
    iterations : int
        Of conjugate gradients, at most.
    seconds : float
        At which conjugate gradients stop.
    """

    method: Literal["auto", "dense", "stochastic"] = "auto"
    probes: int = 8
    tolerance: float = 1e-3
    iterations: int = 2000
    seconds: float = math.inf


@dataclass(frozen=True, kw_only=True)
class Bound:
    """The least variance of an attacker's error, by pixel.

    Parameters
    ----------
    variance : Tensor
        (B, C, H, W), for pixels in [0, 1]; from few probes it is noisy, its mean is not.
    error : Tensor
        (B,), standard error of :attr:`psnr` in dB; 0 where it is exact.
    kind : str
        :data:`CR` or :data:`BCR`.
    method : {"dense", "stochastic"}
        How it was found.
    converged : bool
        Whether the estimate's equations were solved; if not, the variance is too low, so that
        :attr:`psnr` is still out of reach, but further than need be.
    """

    variance: Tensor
    error: Tensor
    kind: str
    method: Literal["dense", "stochastic"]
    converged: bool = True

    @property
    def psnr(self) -> Tensor:
        """PSNR of the least mean squared error of each image, (B,), in dB."""
        return -10 * self.variance.flatten(1).mean(1).log10()

    @property
    def deviation(self) -> Tensor:
        """Standard deviation by pixel, (B, C, H, W)."""
        return self.variance.clamp_min(0).sqrt()


def bound(
    problem: Problem,
    truth: Truth,
    prior: GaussianPrior | None = None,
    *,
    budget: Budget = Budget(),
    seed: int = 0,
) -> Bound:
    """Return the bound on every attack on an update.

    Parameters
    ----------
    problem : Problem
        Of the observation; taken to float64.
    truth : Truth
        The images behind it.
    prior : GaussianPrior, optional
        What an attacker knows of X-rays; without one the bound is that of unbiased attackers.
    budget : Budget
        How it is found.
    seed : int
        Of the probes.

    Raises
    ------
    BoundError
        If the truth does not fit the observation, the update is one of too many steps, or
        (without a prior) it does not determine the images.
    """
    information = Information(problem.to(torch.float64), truth, prior)
    if budget.method == "dense" or (budget.method == "auto" and information.fits):
        return _dense(information)
    return _stochastic(information, budget, seed)


def noise(problem: Problem, truth: Truth) -> dict[str, float]:
    """Return the standard deviation of the noise on the observed gradient, by array.

    Where the channel adds noise it is the channel's. Elsewhere it is the rms of what was really
    observed less what the true images give in float64, over the entries that were observed: the
    client's rounding as it was, where :meth:`Problem.sigma` has to assume a general level. What
    an attacker's model of the update leaves out counts as noise too.
    """
    expected = _observable(problem, truth)(truth.images.to(problem.device, torch.float64))
    found = {}
    for name, value in expected.items():
        if problem.threat.channel.noise.get(name):
            found[name] = problem.sigma(name)
            continue
        mask = problem.threat.channel.observed.get(name)
        entries = value.numel() if mask is None else int(mask.sum())
        deviation = float((problem.gradient[name] - value).norm())
        least = torch.finfo(value.dtype).eps * float(value.abs().max())
        found[name] = max(deviation / max(entries, 1) ** 0.5, least, 1e-30)
    return found


class Information:
    """J^T Sigma^-1 J + P at the true images, (n, n) over all pixels of the batch.

    Parameters
    ----------
    problem : Problem
        In float64.
    truth : Truth
        The true images and labels.
    prior : GaussianPrior, optional
        Of each image; P = 0 without one.
    """

    def __init__(self, problem: Problem, truth: Truth, prior: GaussianPrior | None) -> None:
        if tuple(truth.images.shape) != tuple(problem.shape):
            raise BoundError(
                f"{problem.name}: {tuple(truth.images.shape)} true images, the update is of "
                f"{tuple(problem.shape)}"
            )
        self.shape = problem.shape
        self.kind = CR if prior is None else BCR
        self.images = truth.images.detach().to(problem.device, torch.float64)
        self.prior = None if prior is None else prior.to(problem.device, torch.float64)
        observable, sigma = _observable(problem, truth), noise(problem, truth)

        def scaled(images: Tensor) -> Tensor:
            return torch.cat([v.flatten() / sigma[n] for n, v in observable(images).items()])

        self._scaled = scaled
        found = vjp(scaled, self.images)
        self.equations, self._pullback = found[0].numel(), found[1]

    @property
    def size(self) -> int:
        """n, the number of unknowns."""
        return self.images.numel()

    @property
    def fits(self) -> bool:
        """Whether the matrix and its factor fit into :data:`MEMORY_BYTES`."""
        return 8 * (4 * self.size**2 + 3 * CHUNK * self.equations) <= MEMORY_BYTES

    def data(self, vectors: Tensor) -> Tensor:
        """Return J^T Sigma^-1 J times vectors, (k, n), a chunk at a time."""

        def of_one(vector: Tensor) -> Tensor:
            push = jvp(self._scaled, (self.images,), (vector.view(self.shape),))[1]
            return self._pullback(push)[0].flatten()

        return vmap(of_one, chunk_size=CHUNK)(vectors)

    def __matmul__(self, vectors: Tensor) -> Tensor:
        """Return the information times vectors, (k, n)."""
        found = self.data(vectors)
        if self.prior is not None:
            images = vectors.view(-1, self.prior.size)
            found += self.prior.precision_matvec(images).view_as(vectors)
        return found

    def dense(self) -> Tensor:
        """Return the matrix, from all equations."""
        n = self.size
        if 8 * n * (2 * self.equations + 3 * n) <= MEMORY_BYTES:  # the Jacobian is joined once
            J = jacobian(self._scaled, self.images, CHUNK)
            found = J.T @ J
        else:
            found = self.images.new_empty(n, n)
            for first in range(0, n, CHUNK):
                basis = torch.zeros(min(CHUNK, n - first), n).to(found)
                basis[torch.arange(len(basis)), first + torch.arange(len(basis))] = 1
                found[first : first + len(basis)] = self.data(basis)
        if self.prior is not None:
            precision, size = self.prior.precision(), self.prior.size
            for i in range(0, n, size):
                found[i : i + size, i : i + size] += precision
        return found

    def preconditioner(self) -> Callable[[Tensor], Tensor]:
        """Return v -> (P + c I)^-1 v, c the data's mean eigenvalue; the identity without P."""
        if self.prior is None:
            return lambda vectors: vectors
        probe = _signs(1, self.size, 0).to(self.images)
        curvature = float((probe * self.data(probe)).sum()) / self.size
        solve, size = self.prior.posterior_covariance(curvature), self.prior.size
        return lambda vectors: solve(vectors.view(-1, size)).view_as(vectors)


def _dense(information: Information) -> Bound:
    """Return the bound from the inverse itself."""
    factor, failed = torch.linalg.cholesky_ex(information.dense())
    if int(failed):
        raise BoundError("the update does not determine the images, and there is no prior")
    variance = torch.cholesky_inverse(factor).diagonal().view(information.shape).cpu()
    exact = torch.zeros(len(variance), dtype=variance.dtype)
    return Bound(variance=variance, error=exact, kind=information.kind, method="dense")


def _stochastic(information: Information, budget: Budget, seed: int) -> Bound:
    """Return an estimate of the bound.

    With z of random signs the inverse's diagonal is the mean of z * (A^-1 z) (Bekas, Kokiopoulou
    and Saad 2007). Conjugate gradients approach z^T A^-1 z from below, so what they lack raises
    the bound on the PSNR.
    """
    probes = _signs(budget.probes, information.size, seed).to(information.images)
    solved, converged = _solve(information, probes, budget)
    each = (probes * solved).view(-1, *information.shape).cpu()
    errors = each.flatten(2).mean(2)  # mean squared error of each image by probe
    spread = errors.std(0) / len(each) ** 0.5 / errors.mean(0)
    return Bound(
        variance=each.mean(0),
        error=10 / math.log(10) * spread,
        kind=information.kind,
        method="stochastic",
        converged=converged,
    )


def _solve(information: Information, right: Tensor, budget: Budget) -> tuple[Tensor, bool]:
    """Return A^-1 of rows by preconditioned conjugate gradients (Hestenes and Stiefel 1952).

    The quadratic forms b^T x only grow; where they stand still the equations are solved.
    """
    started = time.monotonic()
    precondition = information.preconditioner()
    x, residual = torch.zeros_like(right), right.clone()
    z = precondition(residual)
    direction = z.clone()
    size = (residual * z).sum(1, keepdim=True)
    forms = [torch.zeros_like(size)]
    for _ in range(budget.iterations):
        image = information @ direction
        length = size / (direction * image).sum(1, keepdim=True).clamp_min(1e-300)
        x += length * direction
        residual -= length * image
        z = precondition(residual)
        size, before = (residual * z).sum(1, keepdim=True), size
        direction = z + size / before.clamp_min(1e-300) * direction
        forms.append((right * x).sum(1, keepdim=True))
        if len(forms) > 10 and bool((forms[-1] - forms[-11] <= budget.tolerance * forms[-1]).all()):
            return x, True
        if time.monotonic() - started > budget.seconds:
            break
    return x, False


def _observable(problem: Problem, truth: Truth) -> Callable[[Tensor], StateDict]:
    """Return the map from images to the gradient that the server would read, without noise."""
    targets, weights, seen = problem.targets(truth.labels), problem.parameters, problem.observation
    if seen.steps == 1:
        return lambda images: problem.expected(weights, images, targets)
    if seen.view == "aggregate" or seen.steps > UNROLLED_STEPS:
        raise BoundError(
            f"{problem.name}: no bound for {seen.steps} local steps"
            + (" of an aggregate" if seen.view == "aggregate" else f", at most {UNROLLED_STEPS}")
        )
    return lambda images: unrolled(problem, weights, images, targets)


def _signs(count: int, size: int, seed: int) -> Tensor:
    """Return random signs, (count, size)."""
    draw = generator(seed, "probes")
    return torch.randint(0, 2, (count, size), generator=draw, dtype=torch.int8).mul(2).sub(1)
