"""What an attacker can reach: bounds at the true images, for scoring alone.

With J the Jacobian of the observed gradient in the pixels, Sigma the covariance of the noise and P
the precision of the prior, a bound is the mean diagonal of the inverse of

* ``J^T Sigma^-1 J``: the Cramer-Rao bound on the error of an unbiased attacker at these images;
* ``J^T Sigma^-1 J + P``: the variance that noise and prior leave at these images (Laplace's
  approximation of the posterior). An attacker with this prior reaches it on average where the
  update is nearly linear over what is left open. No attacker of any kind beats van Trees' bound,
  which has the mean of ``J^T Sigma^-1 J`` over the prior's images, on average over those images;
  the mean of the variances is never below it.

It is an expected limit, an average over noise and images: single pictures may lie a few dB above
it. Whose limit it is, its :data:`Scope`, is told with it. The inverse of the whole matrix is that
of an attacker who seeks all images of the update. An attacker who knows all of them but one, and
their labels, has the inverse of that image's diagonal block, ``(J_i^T Sigma^-1 J_i + P)^-1``.
Its diagonal is never larger (Schur complement), so that it is a limit for the former as well. It
takes the columns of one image, and converges where the whole does not.

Where levels or signs are sent in place of values there is hardly any noise, and the information at
a point says nothing of how far the limits of entries lie from it. There the bound is an estimate of
the posterior's variance: the noise of an entry is taken as what an attacker's own uncertainty makes
of it (:func:`adversary.problem.interval_equations.self_consistent`).

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

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from adversary.bounds.fisher_information import BoundError, FisherInformation, probe_signs
from adversary.common.device_memory import out_of_memory
from adversary.common.truth import Truth
from adversary.priors.gaussian import GaussianPrior
from adversary.problem.problem import Problem
from adversary.problem.update_models import UNROLLED_STEPS

CG_WINDOW = 10
"""Iterations of conjugate gradients over which their progress is judged."""

MAX_STANDARD_ERROR = 0.7
"""Relative standard error above which an estimate is none."""

SINGLE_IMAGE_WORK = 4.0
"""What the bounds of single images may cost together, in units of :attr:`BoundBudget.work`."""


_NO_ESTIMATE_OF_LIMITS = (
    "no bound: that of levels and signs takes the whole matrix, which is too large here; "
    "adversary.bounds = 'on' may have it"
)


class NoEstimateError(BoundError):
    """Random probes that are too few to tell anything, or too little memory."""


@dataclass(frozen=True, kw_only=True)
class BoundBudget:
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
    fewest : int
        Products with a vector that ``work`` must allow for an estimate of several images to be
        begun; from few of them it is an upper limit still, and says next to nothing.
    """

    method: Literal["auto", "dense", "stochastic"] = "auto"
    operations: float = math.inf
    probes: int = 8
    enough: float = 0.0
    tolerance: float = 1e-3
    iterations: int = 2000
    work: float = math.inf
    fewest: int = 0


Scope = Literal["all images unknown", "others known"]
"""Whose bound it is: of an attacker who seeks all images of an update, or one image and knows all
others, with their labels. The latter is never lower."""


@dataclass(frozen=True, kw_only=True)
class BoundResult:
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
        How it was found; "stochastic" where that of any image was estimated.
    converged : bool
        Whether the estimate's equations were solved; if not, the variance is too low, so that
        :attr:`psnr` is still out of reach, but further than need be.
    scope : {"all images unknown", "others known"}
        The same of all images; of a single image both mean the same.
    subject : {"images", "blends"}
        Whether the variance is that of the images themselves or, where the client trained on
        blends of them, of the least uncertain blend that each is part of.
    """

    variance: Tensor
    error: Tensor
    kind: str
    method: Literal["dense", "stochastic"]
    converged: bool = True
    scope: Scope = "all images unknown"
    subject: Literal["images", "blends"] = "images"

    @property
    def psnr(self) -> Tensor:
        """PSNR of the least mean squared error of each image, (B,), in dB."""
        return -10 * self.variance.flatten(1).mean(1).log10()

    @property
    def deviation(self) -> Tensor:
        """Standard deviation by pixel, (B, C, H, W)."""
        return self.variance.clamp_min(0).sqrt()


def cramer_rao_bound(
    problem: Problem,
    truth: Truth,
    prior: GaussianPrior | None = None,
    *,
    budget: BoundBudget = BoundBudget(),
    scope: Scope | None = None,
    seed: int = 0,
) -> BoundResult:
    """Return the bound on every attack on an update.

    An estimate of the bound with all images unknown that did not converge is an upper limit
    still. The bound with the others known is given in its place, for all images, where the budget
    allows it and it is lower for the image that leaks most, where the estimate is too rough, and of
    local training of more than :data:`~adversary.problem.update_models.UNROLLED_STEPS` steps.

    Parameters
    ----------
    problem : Problem
        Of the observation; taken to float64.
    truth : Truth
        The images behind it. Where there are blends of them the bound is of those.
    prior : GaussianPrior, optional
        What an attacker knows of X-rays; without one the bound is that of unbiased attackers.
    budget : Budget
        How it is found.
    scope : {"all images unknown", "others known"}, optional
        Which bound is wanted; by default the lower one that can be had.
    seed : int
        Of the probes.

    Raises
    ------
    BoundError
        If the clients do not use SGD, the truth does not fit the observation or does not explain
        it, the local training is too long for the budget, or (without a prior) the update does not
        determine the images.
    """
    if problem.observation.recipe.optimizer != "sgd":
        raise BoundError(
            f"{problem.name}: no bound for clients that use Adam, in whose steps the error of a "
            "gradient is different for every entry"
        )
    blends = truth.blends
    if blends is not None:
        seen = dataclasses.replace(
            truth, images=blends.images, labels=blends.labels, batches=blends.batches, blends=None
        )
        found = cramer_rao_bound(problem, seen, prior, budget=budget, scope=scope, seed=seed)
        return _by_patient(found, blends.sources, len(truth.images))
    with _memory_watched():
        information = FisherInformation(problem.to(torch.float64), truth, prior)
    long = information.steps > UNROLLED_STEPS
    _check_affordable(problem, information, budget, long)
    if len(information.images) == 1:
        alone = _of_one(information, budget, seed)
        return dataclasses.replace(alone, scope=scope or "all images unknown")
    if scope == "others known" or (long and scope is None):
        return _others_known(information, budget, seed)
    try:
        found = _together(information, budget, seed)
    except NoEstimateError:
        if scope is not None:
            raise
        return _others_known(information, budget, seed)
    wanted = budget.fewest * _product_of_each(information)
    if found.converged or scope is not None or wanted > SINGLE_IMAGE_WORK * budget.work:
        return found
    return _lower(found, information, budget, seed)


def _lower(
    found: BoundResult, information: FisherInformation, budget: BoundBudget, seed: int
) -> BoundResult:
    """Return what did not converge, or the bound with the others known where that is lower.

    Judged by the image for which the former is highest.
    """
    worst = int(found.psnr.argmax())
    try:
        one = _of_one(information.of_image(worst), _share(budget, information), seed)
    except NoEstimateError:
        return found
    if float(one.psnr[0]) >= float(found.psnr[worst]):
        return found
    return _others_known(information, budget, seed, {worst: one})


def _others_known(
    information: FisherInformation,
    budget: BoundBudget,
    seed: int,
    known: Mapping[int, BoundResult] = MappingProxyType({}),
) -> BoundResult:
    """Return the bound of each image for an attacker who knows the others; some may be known."""
    share = _share(budget, information)
    each = [
        known[i] if i in known else _of_one(information.of_image(i), share, seed)
        for i in range(len(information.images))
    ]
    exact = all(one.method == "dense" for one in each)
    return BoundResult(
        variance=torch.cat([one.variance for one in each]),
        error=torch.cat([one.error for one in each]),
        kind=information.kind,
        method="dense" if exact else "stochastic",
        converged=all(one.converged for one in each),
        scope="others known",
    )


def _share(budget: BoundBudget, information: FisherInformation) -> BoundBudget:
    """Return what the bound of one image among several may cost."""
    return dataclasses.replace(
        budget, work=SINGLE_IMAGE_WORK * budget.work / len(information.images)
    )


def _together(information: FisherInformation, budget: BoundBudget, seed: int) -> BoundResult:
    """Return the bound of all unknown images at once."""
    with _memory_watched():
        if _exact(information, budget, budget.operations):
            return _dense(information)
        if information.limited:
            raise NoEstimateError(_NO_ESTIMATE_OF_LIMITS)
        return _stochastic(information, budget, seed)


def _of_one(information: FisherInformation, budget: BoundBudget, seed: int) -> BoundResult:
    """Return the bound of a single unknown image: the exact one where an estimate fails."""
    found: BoundResult | None = None
    with contextlib.suppress(NoEstimateError):
        found = _together(information, budget, seed)
    if found is not None and found.converged:
        return found
    with _memory_watched():
        if _exact(information, budget, budget.operations + budget.work):
            return _dense(information)
        if information.limited:
            raise BoundError(_NO_ESTIMATE_OF_LIMITS)
        return found or _least(information, budget, seed)


@contextlib.contextmanager
def _memory_watched() -> Iterator[None]:
    """Raise :class:`NoEstimateError` in place of the errors of too little memory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise NoEstimateError("no bound: the update does not fit into memory") from error


def _exact(information: FisherInformation, budget: BoundBudget, operations: float) -> bool:
    """Return whether a budget gives the exact bound, at that many multiplications at most."""
    return budget.method == "dense" or (
        budget.method == "auto" and information.fits and information.operations <= operations
    )


def _check_affordable(
    problem: Problem, information: FisherInformation, budget: BoundBudget, long: bool
) -> None:
    """Raise :class:`BoundError` where neither all images together nor each alone can be had."""
    exact = _exact(information, budget, budget.operations)
    enough = exact or budget.fewest * information.product <= budget.work
    together = not long and (enough or len(information.images) == 1)
    least = 2 * CG_WINDOW * _product_of_each(information)
    if together or least <= SINGLE_IMAGE_WORK * budget.work:
        return
    raise BoundError(
        f"{problem.name}: no bound for {information.steps} local steps on "
        f"{len(information.images)} images: it would take {least:.0e} multiplications, "
        f"at most {SINGLE_IMAGE_WORK * budget.work:.0e}"
    )


def _product_of_each(information: FisherInformation) -> float:
    """Return the multiplications of a product of each image's own information."""
    return information.product * len(information.images)


def _by_patient(found: BoundResult, sources: Tensor, patients: int) -> BoundResult:
    """Return the bound on blends as that of each patient's least uncertain one."""
    level = found.variance.flatten(1).mean(1)
    chosen = torch.stack(
        [
            torch.where((sources == patient).any(1).cpu(), level, torch.inf).argmin()
            for patient in range(patients)
        ]
    )
    return dataclasses.replace(
        found, variance=found.variance[chosen], error=found.error[chosen], subject="blends"
    )


def minimum_variance(information: Tensor) -> Tensor:
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


def _dense(information: FisherInformation) -> BoundResult:
    """Return the bound from the inverse itself."""
    variance = minimum_variance(information.dense()).view(information.shape).cpu()
    exact = torch.zeros(len(variance), dtype=variance.dtype)
    return BoundResult(variance=variance, error=exact, kind=information.kind, method="dense")


def _stochastic(information: FisherInformation, budget: BoundBudget, seed: int) -> BoundResult:
    """Return an estimate of the bound.

    With z of random signs the inverse's diagonal is the mean of z * (A^-1 z) (Bekas, Kokiopoulou
    and Saad 2007). Conjugate gradients approach z^T A^-1 z from below, so what they lack raises
    the bound on the PSNR. What the same probes miss of a matrix near the inverse whose diagonal
    is known is taken off, where that makes the estimate less rough.

    Raises
    ------
    NoEstimateError
        If the standard error is above :data:`MAX_STANDARD_ERROR`.
    """
    products = budget.work / information.product
    probes = probe_signs(budget.probes, information.size, seed).to(information.images)
    found: list[Tensor] = []
    lacking = 0.0
    for group in probes.split(1 if budget.enough else budget.probes):
        solved, left, spent = _solve(information, group, budget, products)
        products -= spent
        found.append(solved)
        lacking = max(lacking, left)
        variance, spread = _estimated(information, probes, torch.cat(found), budget.enough)
        if 10 / math.log(10) * float(spread.max()) <= budget.enough or products <= 0:
            break
    if float(spread.max()) > MAX_STANDARD_ERROR:
        raise NoEstimateError(
            f"no bound: {sum(map(len, found))} random probes estimate it too roughly (a few "
            "directions decide it); adversary.bounds = 'on' may be exact"
        )
    converged = lacking <= budget.tolerance
    error = 10 / math.log(10) * (spread + (lacking if converged else 0))
    return BoundResult(
        variance=variance.cpu(),
        error=error.cpu(),
        kind=information.kind,
        method="stochastic",
        converged=converged,
    )


def _least(information: FisherInformation, budget: BoundBudget, seed: int) -> BoundResult:
    """Return a bound for one image that can always be had, and may be far above the others.

    The mean diagonal of an inverse is no less than the inverse of the mean diagonal, which is
    estimated from random probes (Hutchinson 1990).
    """
    count = int(max(1, min(budget.probes, budget.work / information.product)))
    probes = probe_signs(count, information.size, seed).to(information.images)
    none = probes.new_zeros(())
    diagonal, spread = _mean(probes, information @ probes, none, information.shape)
    return BoundResult(
        variance=(1 / diagonal.mean()).expand(information.shape).cpu(),
        error=10 / math.log(10) * spread.cpu(),
        kind=information.kind,
        method="stochastic",
        converged=False,
    )


def _estimated(
    information: FisherInformation, probes: Tensor, solved: Tensor, enough: float
) -> tuple[Tensor, Tensor]:
    """Return :func:`_mean` of what was solved, with the control variate that serves it best.

    None is looked at where the standard error is ``enough`` in dB without.
    """
    shape = information.shape
    plain = _mean(probes, solved, solved.new_zeros(()), shape)
    if 10 / math.log(10) * float(plain[1].max()) <= enough:
        return plain
    probes = probes[: len(solved)]
    controlled = [
        _mean(probes, solved - apply(probes), known.view(shape[1:]), shape)
        for apply, known in information.controls
    ]
    return min([plain, *controlled], key=lambda estimate: float(estimate[1].max()))


def _mean(
    probes: Tensor, solved: Tensor, known: Tensor, shape: torch.Size
) -> tuple[Tensor, Tensor]:
    """Return the estimated variance by pixel, and the standard error of each image's, as a share.

    That of a matrix A^-1 - M, known on probes, with M's diagonal ``known``. An image's share of
    one probe, the sum over its pixels i of z_i (A^-1 z)_i, has a variance of at most
    2 sum_ij (A^-1)_ij^2 over i != j. The sum with i = j is the mean of ||A^-1 z||^2 over its
    pixels, and what is too much at least the number of pixels times their mean squared; so it is
    for A^-1 - M.
    """
    each = (probes[: len(solved)] * solved).view(-1, *shape)
    mean = each.flatten(2).mean((0, 2))
    pixels = each[0, 0].numel()
    squares = solved.view(-1, shape[0], pixels).square().sum(2).mean(0)
    variance = 2 * (squares - pixels * mean.square()).clamp_min(0) / len(solved)
    found = each.mean(0) + known
    return found, variance.sqrt() / (pixels * found.flatten(1).mean(1)).clamp_min(1e-300)


def _solve(
    information: FisherInformation, right: Tensor, budget: BoundBudget, products: float
) -> tuple[Tensor, float, int]:
    """Return A^-1 of rows, what the forms b^T x lack, and how many products with a vector it took.

    Preconditioned conjugate gradients (Hestenes and Stiefel 1952), to ``products`` or little more.
    The forms only grow; what they lack is told, as a share, by how their growth slows down (see
    :func:`_estimated_remainder`).
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
        lacking = _estimated_remainder(forms, budget.tolerance)
        if lacking <= budget.tolerance or spent >= products:
            break
    return x, lacking, spent


def _estimated_remainder(forms: Sequence[Tensor], tolerance: float) -> float:
    """Return what growing sequences, in rows, are expected to lack of their limits, as a share.

    The increments over two windows of :data:`CG_WINDOW` are continued as a geometric series; where
    they do not fall, nothing can be said (infinity) unless they are far below the tolerance. A
    pause between directions of very different weight is taken for the end; what is missed then
    keeps the bound on the PSNR too high, never too low.
    """
    if len(forms) <= 2 * CG_WINDOW:
        return math.inf
    last, middle, first = (forms[-1 - i * CG_WINDOW] for i in range(3))
    late, early = last - middle, middle - first
    tail = late.square() / (early - late).clamp_min(1e-300)
    done = late <= 0.1 * tolerance * last
    return float((torch.where(done, late, tail) / last).max())
