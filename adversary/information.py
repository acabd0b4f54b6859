"""What an update tells of the true images: the information matrix that bounds rest on."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

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

UNEXPLAINED = 10.0
"""Standard deviations of the noise that the true images may leave of the update."""

CR, BCR = "Cramer-Rao", "Bayesian Cramer-Rao"


class BoundError(RuntimeError):
    """An update that no bound can be given for; one line says why."""


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
        probe = signs(1, self.size, 0).to(self.images)
        curvature = float((probe * self.data(probe)).sum()) / self.size
        solve, size = self.prior.posterior_covariance(curvature), self.prior.size
        return lambda vectors: solve(vectors.view(-1, size)).view_as(vectors)


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


def signs(count: int, size: int, seed: int) -> Tensor:
    """Return random signs, (count, size)."""
    draw = generator(seed, "probes")
    return torch.randint(0, 2, (count, size), generator=draw, dtype=torch.int8).mul(2).sub(1)
