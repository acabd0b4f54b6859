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

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.func import jvp, vjp, vmap

from adversary.evaluation import Truth
from adversary.gradients import step_size
from adversary.observation import StateDict
from adversary.priors import GaussianPrior
from adversary.problem import Problem
from adversary.readings import UNROLLED_STEPS, assumed_batches, unrolled
from adversary.residuals import jacobian
from adversary.seeding import generator

MEMORY_BYTES = 4 * 2**30
"""Most memory that a dense bound may take."""

CHUNK = 64
"""Directions that are sent through the model together."""

TANGENT = 1500
"""Multiplications that one direction costs for each entry of the gradient and step, roughly."""

WINDOW = 10
"""Iterations of conjugate gradients over which their progress is judged."""

ROUGH = 0.7
"""Relative standard error above which an estimate is none."""

UNEXPLAINED = 10.0
"""Standard deviations of the noise that the true images may leave of the update."""

CR, BCR = "Cramer-Rao", "Bayesian Cramer-Rao"


class BoundError(RuntimeError):
    """An update that no bound can be given for; one line says why."""


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


def noise(problem: Problem, truth: Truth) -> dict[str, float]:
    """Return the standard deviation of the noise on the observed gradient, by array.

    Where the channel adds noise it is the channel's and the rounding of float32. Elsewhere it is
    the rms of what was really observed less what the true images give in float64, over the
    entries that were observed: the client's rounding as it was, where :meth:`Problem.sigma` has
    to assume a general level.

    Raises
    ------
    BoundError
        If the true images leave more of the update than :data:`UNEXPLAINED` times the noise:
        then something changed it that the channel does not tell of.
    """
    expected = _observable(problem, truth)(truth.images.to(problem.device, problem.dtype))
    low = problem.to(torch.float32)
    rounded = _observable(low, truth)(truth.images.to(problem.device, torch.float32))
    found, misfit, total = {}, 0.0, 0
    for name, value in expected.items():
        mask = problem.threat.channel.observed.get(name)
        entries = max(value.numel() if mask is None else int(mask.sum()), 1)
        least = max(torch.finfo(value.dtype).eps * float(value.abs().max()), 1e-30)
        rounding = float((rounded[name] - value).norm()) / entries**0.5
        level = max(math.hypot(problem.noise(name), rounding), least)
        deviation = float((problem.gradient[name] - value).norm()) / entries**0.5
        misfit += entries * (deviation / level) ** 2
        total += entries
        # A few entries may have been rounded by luck to the true value: no less than one's own.
        measured = max(deviation, rounding, least)
        found[name] = level if problem.threat.channel.noise.get(name) else measured
    if misfit > total * UNEXPLAINED**2:
        raise BoundError(
            f"{problem.name}: the true images leave {(misfit / total) ** 0.5:.3g} times the noise "
            f"of the update unexplained; with what else changed it unknown there is no bound"
        )
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
        if truth.images.shape[1:] != problem.shape[1:] or not (
            truth.batches or len(truth.images) == problem.shape[0]
        ):
            raise BoundError(
                f"{problem.name}: {tuple(truth.images.shape)} true images, the update is of "
                f"{tuple(problem.shape)}"
            )
        self.shape = truth.images.shape
        self.kind = CR if prior is None else BCR
        self.images = truth.images.detach().to(problem.device, torch.float64)
        self.prior = None if prior is None else prior.to(problem.device, torch.float64)
        observable, sigma = _observable(problem, truth), noise(problem, truth)
        each = [self.images.new_full(g.shape, 1 / sigma[n]) for n, g in problem.gradient.items()]
        weights = torch.cat([weight.flatten() for weight in each])

        def scaled(images: Tensor) -> Tensor:
            arrays = observable(images)
            return torch.cat([arrays[n].flatten() for n in problem.gradient]) * weights

        self._scaled, self._steps = scaled, problem.observation.steps
        found = vjp(scaled, self.images)
        self.equations, self._pullback = found[0].numel(), found[1]

    @property
    def size(self) -> int:
        """n, the number of unknowns."""
        return self.images.numel()

    @property
    def operations(self) -> float:
        """Multiplications of :meth:`dense`, roughly."""
        return self.equations * self.size * (self.size + TANGENT * self._steps)

    @property
    def product(self) -> float:
        """Multiplications of the product with one vector, roughly."""
        return 2 * self.equations * TANGENT * self._steps

    @property
    def fits(self) -> bool:
        """Whether the matrix and its factor fit into :data:`MEMORY_BYTES`."""
        return 8 * (4 * self.size**2 + 3 * CHUNK * self.equations) <= MEMORY_BYTES

    def data(self, vectors: Tensor) -> Tensor:
        """Return J^T Sigma^-1 J times vectors, (k, n), a chunk at a time."""

        def of_one(vector: Tensor) -> Tensor:
            push = jvp(self._scaled, (self.images,), (vector.view(self.shape),))[1]
            return self._pullback(push)[0].flatten()

        if len(vectors) == 1:  # quicker without batching rules
            return of_one(vectors[0])[None]
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

    @functools.cached_property
    def preconditioner(self) -> Callable[[Tensor], Tensor]:
        """The map v -> (P + c I)^-1 v, c the data's mean eigenvalue; the identity without P."""
        if self.prior is None:
            return lambda vectors: vectors
        probe = _signs(1, self.size, 0).to(self.images)
        curvature = float((probe * self.data(probe)).sum()) / self.size
        solve, size = self.prior.posterior_covariance(curvature), self.prior.size
        return lambda vectors: solve(vectors.view(-1, size)).view_as(vectors)


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
    probes = _signs(budget.probes, information.size, seed).to(information.images)
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


def _observable(problem: Problem, truth: Truth) -> Callable[[Tensor], StateDict]:
    """Return the map from images to the gradient that the server would read, without noise.

    The clients' own local training, on the batches that they used; of an aggregate their mean by
    numbers of examples, each with its own batch statistics and clipping.
    """
    seen, targets, weights = problem.observation, problem.targets(truth.labels), problem.parameters
    examples = list(seen.members.values()) or [seen.num_examples]
    clients = [
        dataclasses.replace(
            problem,
            observation=dataclasses.replace(seen, num_examples=n, members={}, view="client"),
        )
        for n in examples
    ]
    steps = max(client.observation.steps for client in clients)
    if steps > UNROLLED_STEPS:
        raise BoundError(
            f"{problem.name}: no bound for {steps} local steps, at most {UNROLLED_STEPS}"
        )
    batches = truth.batches or _recipe_batches(clients)
    scale = step_size(seen)
    plain = math.isinf(problem.threat.channel.example_clip)  # no Poisson batches

    def of_client(client: Problem, images: Tensor, batches: Sequence[Tensor]) -> StateDict:
        if seen.recipe.update == "gradient" or (len(batches) == 1 and plain):
            return client.expected(weights, images[batches[0]], targets[batches[0]])
        return unrolled(client, weights, images, targets, batches)

    # A client's delta is its step size times (its mean gradient + decay times weights).
    shares = [
        n / sum(examples) * step_size(client.observation) / scale
        for n, client in zip(examples, clients, strict=True)
    ]
    excess = seen.recipe.weight_decay * (sum(shares) - 1)

    def observed(images: Tensor) -> StateDict:
        if len(clients) == 1:
            return of_client(clients[0], images, batches[0])
        each = [of_client(c, images, b) for c, b in zip(clients, batches, strict=True)]
        return {
            name: excess * weights[name]
            + sum(share * one[name] for share, one in zip(shares, each, strict=True))
            for name in each[0]
        }

    return observed


def _recipe_batches(clients: Sequence[Problem]) -> list[list[Tensor]]:
    """Return the mini-batches of an update's clients as their recipe makes them, in order."""
    found, first = [], 0
    for client in clients:
        found.append([first + batch for batch in assumed_batches(client.observation)])
        first += client.observation.images
    return found


def _signs(count: int, size: int, seed: int) -> Tensor:
    """Return random signs, (count, size)."""
    draw = generator(seed, "probes")
    return torch.randint(0, 2, (count, size), generator=draw, dtype=torch.int8).mul(2).sub(1)
