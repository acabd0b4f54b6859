"""What an attacker can reach: bounds at the true images, for scoring alone.

With J the Jacobian of the observed gradient in the pixels, Sigma the covariance of the noise and P
the precision of the prior, a bound is the mean diagonal of the inverse of

* ``J^T Sigma^-1 J``: the Cramer-Rao bound on the error of an unbiased attacker at these images;
* ``J^T Sigma^-1 J + P``: the variance that noise and prior leave at these images (Laplace's
  approximation of the posterior). An attacker with this prior reaches it on average where the
  update is nearly linear over what is left open; one image may come back better by luck. No
  attacker of any kind beats van Trees' bound, which has the mean of ``J^T Sigma^-1 J`` over the
  prior's images, on average over those images; the mean of the variances is never below it.

What they rest on. The noise is Gaussian, independent and of the level said: rounding is neither
Gaussian nor independent from entry to entry, and at the level of float32 the bounds are a guide
and no theorem. (The errors of one X-ray's gradient in a GELU ConvNet leave 142.7 dB, to first
order; shuffled within their arrays they leave 154.8, as the bound has it.) The images are those
of the prior: a better one than the normal distribution of public X-rays (which does not know, say,
that pixels end at 0 and 1) sees more under strong noise. The update is read as the client trained,
labels and batches given, which makes the attacker no weaker. What the choice of masked entries, or
a level of noise that depends on the images, tells by itself is left out.

References
----------
van Trees 1968, "Detection, Estimation, and Modulation Theory", part I, section 2.4; Gill and Levit
1995 for the multivariate inequality.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from adversary.evaluation import Truth
from adversary.information import BoundError, Information, signs
from adversary.priors import GaussianPrior
from adversary.problem import Problem

WINDOW = 10
"""Iterations of conjugate gradients over which their progress is judged."""

ROUGH = 0.7
"""Relative standard error above which an estimate is none."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a bound may cost.

    Parameters
    ----------
    method : {"auto", "dense", "stochastic"}
        Exact, or estimated from random probes; auto is dense where memory and ``operations``
        allow.
    operations : float
        Multiplications that an exact bound may cost for auto to choose it; some 2e10 a second on
        one core.
    probes : int
        Random vectors of the estimate at most, >= 1.
    enough : float
        Standard error in dB from which on no more of them are taken; 0 takes all, at once.
    tolerance : float
        Conjugate gradients end where they expect to add less than this share of the mean squared
        error: 0.01 is 0.04 dB.
    iterations : int
        Of conjugate gradients, at most.
    work : float
        Multiplications after which an estimate ends with what it has; not a time, so that it can
        be repeated.
    """

    method: Literal["auto", "dense", "stochastic"] = "auto"
    operations: float = math.inf
    probes: int = 8
    enough: float = 0.0
    tolerance: float = 1e-3
    iterations: int = 2000
    work: float = math.inf


@dataclass(frozen=True, kw_only=True)
class Bound:
    """The least variance of an attacker's error, by pixel.

    Parameters
    ----------
    variance : Tensor
        (B, C, H, W), for pixels in [0, 1]; from few probes it is noisy, its mean is not.
    error : Tensor
        (B,), of :attr:`psnr` in dB: the standard error of the probes and what conjugate gradients
        are expected to lack (if they converged); 0 where it is exact.
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
        If the clients do not use SGD, the truth does not fit the observation or does not explain
        it, the update is one of too many steps, or (without a prior) it does not determine the
        images.
    """
    if problem.observation.recipe.optimizer != "sgd":
        raise BoundError("bounds are worked out for clients that use SGD")
    information = Information(problem.to(torch.float64), truth, prior)
    if budget.method == "dense" or (
        budget.method == "auto" and information.fits and information.operations <= budget.operations
    ):
        return _dense(information)
    return _stochastic(information, budget, seed)


def least_variance(information: Tensor) -> Tensor:
    """Return the diagonal of the inverse of an information matrix, (n,).

    Raises
    ------
    BoundError
        If the matrix is singular.
    """
    factor, failed = torch.linalg.cholesky_ex(information)
    if int(failed):
        raise BoundError("the update does not determine the images, and there is no prior")
    return torch.cholesky_inverse(factor).diagonal()


def _dense(information: Information) -> Bound:
    """Return the bound from the inverse itself."""
    variance = least_variance(information.dense()).view(information.shape).cpu()
    exact = torch.zeros(len(variance), dtype=variance.dtype)
    return Bound(variance=variance, error=exact, kind=information.kind, method="dense")


def _stochastic(information: Information, budget: Budget, seed: int) -> Bound:
    """Return an estimate of the bound.

    With z of random signs the inverse's diagonal is the mean of z * (A^-1 z) (Bekas, Kokiopoulou
    and Saad 2007). Conjugate gradients approach z^T A^-1 z from below, so what they lack raises
    the bound on the PSNR.
    """
    products = budget.work / information.product
    probes = signs(budget.probes, information.size, seed).to(information.images)
    found: list[Tensor] = []
    lacking = 0.0
    for group in probes.split(1 if budget.enough else budget.probes):
        solved, left, spent = _solve(information, group, budget, products)
        products -= spent
        found.append(solved)
        lacking = max(lacking, left)
        variance, spread = _mean(probes, torch.cat(found), information.shape)
        if 10 / math.log(10) * float(spread.max()) <= budget.enough or products <= 0:
            break
    if float(spread.max()) > ROUGH:
        raise BoundError(
            f"no bound: {sum(map(len, found))} random probes estimate it too roughly (a few "
            "directions decide it); adversary.bounds = 'on' may be exact"
        )
    converged = lacking <= budget.tolerance
    error = 10 / math.log(10) * (spread + (lacking if converged else 0))
    return Bound(
        variance=variance.cpu(),
        error=error.cpu(),
        kind=information.kind,
        method="stochastic",
        converged=converged,
    )


def _mean(probes: Tensor, solved: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Return the estimated variance by pixel, and the standard error of each image's, as a share.

    An image's share of one probe, the sum over its pixels i of z_i (A^-1 z)_i, has a variance of
    at most 2 sum_ij (A^-1)_ij^2 over i != j. The sum with i = j is the mean of ||A^-1 z||^2 over
    its pixels, and what is too much at least the number of pixels times their mean squared.
    """
    each = (probes[: len(solved)] * solved).view(-1, *shape)
    error = each.flatten(2).mean((0, 2))
    pixels = each[0, 0].numel()
    squares = solved.view(-1, shape[0], pixels).square().sum(2).mean(0)
    variance = 2 * (squares - pixels * error.square()).clamp_min(0) / len(solved)
    return each.mean(0), variance.sqrt() / (pixels * error.clamp_min(1e-300))


def _solve(
    information: Information, right: Tensor, budget: Budget, products: float
) -> tuple[Tensor, float, int]:
    """Return A^-1 of rows, what the forms b^T x lack, and how many products with a vector it took.

    Preconditioned conjugate gradients (Hestenes and Stiefel 1952), to ``products`` or little more.
    The forms only grow; what they lack is told, as a share, by how their growth slows down (see
    :func:`_lacking`).
    """
    precondition = information.preconditioner
    x, residual = torch.zeros_like(right), right.clone()
    z = precondition(residual)
    direction = z.clone()
    size = (residual * z).sum(1, keepdim=True)
    forms = [torch.zeros_like(size)]
    lacking = math.inf
    spent = 0
    for _ in range(budget.iterations):
        image = information @ direction
        spent += len(direction)
        length = size / (direction * image).sum(1, keepdim=True).clamp_min(1e-300)
        x += length * direction
        residual -= length * image
        z = precondition(residual)
        size, before = (residual * z).sum(1, keepdim=True), size
        direction = z + size / before.clamp_min(1e-300) * direction
        forms.append((right * x).sum(1, keepdim=True))
        lacking = _lacking(forms, budget.tolerance)
        if lacking <= budget.tolerance or spent >= products:
            break
    return x, lacking, spent


def _lacking(forms: Sequence[Tensor], tolerance: float) -> float:
    """Return what growing sequences, in rows, are expected to lack of their limits, as a share.

    The increments over two windows of :data:`WINDOW` are continued as a geometric series; where
    they do not fall, nothing can be said (infinity) unless they are far below the tolerance. A
    pause between directions of very different weight is taken for the end; what is missed then
    keeps the bound on the PSNR too high, never too low.
    """
    if len(forms) <= 2 * WINDOW:
        return math.inf
    last, middle, first = (forms[-1 - i * WINDOW] for i in range(3))
    late, early = last - middle, middle - first
    tail = late.square() / (early - late).clamp_min(1e-300)
    done = late <= 0.1 * tolerance * last
    return float((torch.where(done, late, tail) / last).max())
