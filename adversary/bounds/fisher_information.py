"""What an update tells of the true images: the information matrix that bounds rest on."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor
from torch.func import jvp, vjp, vmap

from adversary.common.errors import UserError
from adversary.common.seeding import generator
from adversary.common.truth import Truth
from adversary.common.types import StateDict
from adversary.observation.mean_gradient import total_step_size
from adversary.priors.gaussian import GaussianPrior
from adversary.problem.interval_equations import (
    Distances,
    gradient_intervals,
    has_intervals,
    prior_noise,
    rounding_level,
    self_consistent,
)
from adversary.problem.problem import Problem
from adversary.problem.residuals import jacobian, separable
from adversary.problem.update_models import UNROLLED_STEPS, assumed_batches, trained_weights

MEMORY_BYTES = 4 * 2**30
"""Most memory that a dense bound may take."""

DIRECTIONS_PER_CHUNK = 64
"""Directions that are sent through the model together."""

OPERATIONS_PER_DIRECTION = 1500
"""Multiplications that one direction costs for each entry of the gradient and step, roughly."""

GRAPH_COPIES_PER_STEP = 4
"""Arrays of the size of the weights that are kept of a local step to differentiate it."""

MAX_RESIDUAL_SIGMAS = 10.0
"""Standard deviations of the noise that the true images may leave of the update."""

UNCERTAINTY_SHARE = 0.5
"""Of an attacker's own uncertainty, what counts as noise where limits alone are told: that share
for which the limit is about the highest. In random linear problems of signs and of levels it lies a
dB above what the best attackers reach (tests/adversary/problem/test_interval_equations.py)."""

CR, BCR = "Cramer-Rao", "Bayesian Cramer-Rao"

Observable = Callable[[Tensor], StateDict]


class BoundError(UserError, RuntimeError):
    """An update that no bound can be given for; one line says why."""


def noise_deviation(problem: Problem, truth: Truth) -> dict[str, float]:
    """Return the standard deviation of the noise on the observed gradient, by array.

    Where the channel adds noise it is the channel's and the rounding of float32. Elsewhere it is
    the rms of what was really observed less what the true images give in float64, over the
    entries that were observed: the client's rounding as it was, where :meth:`Problem.sigma` has
    to assume a general level.

    Raises
    ------
    BoundError
        If the true images leave more of the update than :data:`MAX_RESIDUAL_SIGMAS` times the
        noise: then something changed it that the channel does not tell of.
    """
    expected = _Training(problem, truth).whole(truth.images.to(problem.device, problem.dtype))
    low = problem.to(torch.float32)
    rounded = _Training(low, truth).whole(truth.images.to(problem.device, torch.float32))
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
    if misfit > total * MAX_RESIDUAL_SIGMAS**2:
        raise BoundError(
            f"{problem.name}: the true images leave {(misfit / total) ** 0.5:.3g} times the noise "
            f"of the update unexplained; with what else changed it unknown there is no bound"
        )
    return found


class FisherInformation:
    """J^T Sigma^-1 J + P at the true images, (n, n) over the unknown pixels.

    Parameters
    ----------
    problem : Problem
        In float64.
    truth : Truth
        The true images and labels.
    prior : GaussianPrior, optional
        Of each image; P = 0 without one.

    Attributes
    ----------
    images : Tensor
        (B, C, H, W), those whose pixels are unknown: all of the update, or one (:meth:`of_image`).
    kind : str
        :data:`CR` or :data:`BCR`.
    """

    def __init__(self, problem: Problem, truth: Truth, prior: GaussianPrior | None) -> None:
        if truth.images.shape[1:] != problem.shape[1:] or not (
            truth.batches or len(truth.images) == problem.shape[0]
        ):
            raise BoundError(
                f"{problem.name}: {tuple(truth.images.shape)} true images, the update is of "
                f"{tuple(problem.shape)}"
            )
        self.kind = CR if prior is None else BCR
        self.prior = None if prior is None else prior.to(problem.device, torch.float64)
        self.images = truth.images.detach().to(problem.device, torch.float64)
        self._training = _Training(problem, truth)
        self._observable: Observable = self._training.whole
        self.steps = self._training.steps
        self._problem, self._truth = problem, truth
        observed = problem.threat.channel.observed
        self._told = {
            name: observed[name].flatten().nonzero()[:, 0].to(problem.device)
            if name in observed
            else slice(None)
            for name in problem.gradient
        }
        self._limits = self._distances(problem) if has_intervals(problem) else None
        self.entries = sum(g.numel() for g in problem.gradient.values())
        self.equations = sum(
            len(g.flatten()[self._told[name]]) for name, g in problem.gradient.items()
        )

    @functools.cached_property
    def _sigma(self) -> dict[str, float]:
        """:func:`noise_deviation`, of which no derivative is wanted: asked for before any is."""
        return noise_deviation(self._problem, self._truth)

    @property
    def limited(self) -> bool:
        """Whether limits are all that is told of entries; then only :meth:`dense` is had."""
        return self._limits is not None

    def _distances(self, problem: Problem) -> tuple[Distances, Tensor]:
        """Return where limits lie from the true update, and the rounding of entries, (m,) each.

        Raises
        ------
        BoundError
            Without a prior, or where the true update is not within its limits.
        """
        if self.prior is None:
            raise BoundError(
                f"{problem.name}: no bound of unbiased attackers where levels or signs are sent"
            )
        made, limits = self._observable(self.images), gradient_intervals(problem)
        lower, upper, floor = [], [], []
        for name, entries in self._told.items():
            value = made[name].flatten()[entries]
            lower.append(limits[name][0].flatten()[entries] - value)
            upper.append(limits[name][1].flatten()[entries] - value)
            floor.append(torch.full_like(value, rounding_level(problem, name)))
        found, rounding = Distances(torch.cat(lower), torch.cat(upper)), torch.cat(floor)
        beyond = float((found.excess / rounding).square().mean()) ** 0.5
        if beyond > MAX_RESIDUAL_SIGMAS:
            raise BoundError(
                f"{problem.name}: the true images leave the update {beyond:.3g} times its rounding "
                "beyond its levels; with what else changed it unknown there is no bound"
            )
        return found.folded(), rounding

    def of_image(self, index: int) -> FisherInformation:
        """Return the information on one image for those who know all others, (n, n) of its pixels.

        It is that image's diagonal block. Where every image adds its own share to the update it
        costs the gradient of one image; of several local steps, those from the image's first on
        are differentiated.
        """
        _ = self._sigma  # worked out once for all
        alone = copy.copy(self)
        alone.images = self.images[index : index + 1]
        alone._observable, alone.steps = self._training.alone(self.images, index)
        for cached in ("_pullback", "curvature", "preconditioner", "controls"):
            alone.__dict__.pop(cached, None)
        return alone

    def scaled(self, images: Tensor) -> Tensor:
        """Return what is observed of images (B, C, H, W) in units of its noise, (m,).

        But for a constant where images are known.
        """
        arrays = self._observable(images)
        return torch.cat([arrays[n].flatten()[i] / self._sigma[n] for n, i in self._told.items()])

    def _within_limits(
        self, distances: Distances, rounding: Tensor, prior: GaussianPrior
    ) -> Tensor:
        """Return the precision that limits and prior leave at the true images, (n, n)."""

        def entries(images: Tensor) -> Tensor:
            arrays = self._observable(images)
            return torch.cat([arrays[n].flatten()[i] for n, i in self._told.items()])

        rows = jacobian(entries, self.images, DIRECTIONS_PER_CHUNK).T.float()
        noise = prior_noise(rows, rounding, prior)
        return self_consistent(rows, distances, noise, rounding, prior, UNCERTAINTY_SHARE)[0]

    @functools.cached_property
    def _pullback(self) -> Callable[[Tensor], tuple[Tensor, ...]]:
        return cast(Callable[[Tensor], tuple[Tensor, ...]], vjp(self.scaled, self.images)[1])

    @property
    def shape(self) -> torch.Size:
        """(B, C, H, W) of the unknown images."""
        return self.images.shape

    @property
    def size(self) -> int:
        """n, the number of unknowns."""
        return self.images.numel()

    @property
    def operations(self) -> float:
        """Multiplications of :meth:`dense`, roughly."""
        return self.size * (
            self.equations * self.size + self.entries * OPERATIONS_PER_DIRECTION * self.steps
        )

    @property
    def product(self) -> float:
        """Multiplications of the product with one vector, roughly."""
        return 2 * self.entries * OPERATIONS_PER_DIRECTION * self.steps

    @property
    def fits(self) -> bool:
        """Whether the matrix and its factor fit into :data:`MEMORY_BYTES`."""
        return 8 * (4 * self.size**2 + 3 * DIRECTIONS_PER_CHUNK * self.entries) <= MEMORY_BYTES

    def data(self, vectors: Tensor) -> Tensor:
        """Return J^T Sigma^-1 J times vectors, (k, n), a chunk at a time."""
        _, pullback = self._sigma, self._pullback  # worked out before vmap

        def of_one(vector: Tensor) -> Tensor:
            push = jvp(self.scaled, (self.images,), (vector.view(self.shape),))[1]
            return pullback(push)[0].flatten()

        if len(vectors) == 1:  # quicker without batching rules
            return of_one(vectors[0])[None]
        return vmap(of_one, chunk_size=DIRECTIONS_PER_CHUNK)(vectors)

    def __matmul__(self, vectors: Tensor) -> Tensor:
        """Return the information times vectors, (k, n)."""
        found = self.data(vectors)
        if self.prior is not None:
            images = vectors.view(-1, self.prior.size)
            found += self.prior.precision_matvec(images).view_as(vectors)
        return found

    def dense(self) -> Tensor:
        """Return the matrix, from all equations."""
        n, _ = self.size, self._sigma
        if self._limits is not None and self.prior is not None:
            return self._within_limits(*self._limits, self.prior)
        if 8 * n * (2 * self.equations + 3 * n) <= MEMORY_BYTES:  # the Jacobian is joined once
            J = jacobian(self.scaled, self.images, DIRECTIONS_PER_CHUNK)
            found = J.T @ J
        else:
            found = self.images.new_empty(n, n)
            for first in range(0, n, DIRECTIONS_PER_CHUNK):
                basis = torch.zeros(min(DIRECTIONS_PER_CHUNK, n - first), n).to(found)
                basis[torch.arange(len(basis)), first + torch.arange(len(basis))] = 1
                found[first : first + len(basis)] = self.data(basis)
        if self.prior is not None:
            precision, size = self.prior.precision(), self.prior.size
            for i in range(0, n, size):
                found[i : i + size, i : i + size] += precision
        return found

    @functools.cached_property
    def curvature(self) -> float:
        """The data's mean eigenvalue, from one random vector."""
        probe = probe_signs(1, self.size, 0).to(self.images)
        return float((probe * self.data(probe)).sum()) / self.size

    @functools.cached_property
    def preconditioner(self) -> Callable[[Tensor], Tensor]:
        """The map v -> (P + c I)^-1 v, c the :attr:`curvature`; the identity without P."""
        if self.prior is None:
            return lambda vectors: vectors
        return self._by_image(self.prior.posterior_covariance(self.curvature))

    @functools.cached_property
    def controls(self) -> list[tuple[Callable[[Tensor], Tensor], Tensor]]:
        """Maps near the inverse of this matrix, with their known diagonals, (C H W,).

        The prior's covariance, and the :attr:`preconditioner`; none without P. What random probes
        give for them beside what is known tells what the same probes miss of the inverse.
        """
        prior = self.prior
        if prior is None:
            return []
        return [
            (self._by_image(prior.covariance_matvec), prior.variance),
            (self.preconditioner, prior.posterior_variance(self.curvature)),
        ]

    def _by_image(self, apply: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        size = self.images[0].numel()
        return lambda vectors: apply(vectors.view(-1, size)).view_as(vectors)


class _Training:
    """The clients' own local training, on the batches that they used.

    Of an aggregate their mean by numbers of examples, each with its own batch statistics and
    clipping.
    """

    def __init__(self, problem: Problem, truth: Truth) -> None:
        seen = problem.observation
        self.targets, self.weights = problem.targets(truth.labels), problem.parameters
        examples = list(seen.members.values()) or [seen.num_examples]
        self.clients = [
            dataclasses.replace(
                problem,
                observation=dataclasses.replace(seen, num_examples=n, members={}, view="client"),
            )
            for n in examples
        ]
        self.steps = max(client.observation.steps for client in self.clients)
        entries = sum(w.numel() for w in self.weights.values())
        if (
            self.steps > UNROLLED_STEPS
            and 8 * GRAPH_COPIES_PER_STEP * self.steps * entries > MEMORY_BYTES
        ):
            raise BoundError(
                f"{problem.name}: no bound for {self.steps} local steps, whose derivatives take "
                f"more than {MEMORY_BYTES / 2**30:g} GiB"
            )
        self.batches = truth.batches or _recipe_batches(self.clients)
        self._gradient = seen.recipe.update == "gradient"
        self._plain = math.isinf(problem.threat.channel.example_clip)  # no Poisson batches
        self._separable = separable(problem)
        # A client's delta is its step size times (its mean gradient + decay times weights).
        scale = total_step_size(seen)
        self._shares = [
            n / sum(examples) * total_step_size(client.observation) / scale
            for n, client in zip(examples, self.clients, strict=True)
        ]
        self._excess = seen.recipe.weight_decay * (sum(self._shares) - 1)

    def whole(self, images: Tensor) -> StateDict:
        """Return the gradient that the server would read of images, without noise."""
        each = [
            self._of_client(client, batches, [images[b] for b in batches])
            for client, batches in zip(self.clients, self.batches, strict=True)
        ]
        if len(each) == 1:
            return each[0]
        return {
            name: self._excess * self.weights[name]
            + sum(share * one[name] for share, one in zip(self._shares, each, strict=True))
            for name in each[0]
        }

    def alone(self, images: Tensor, index: int) -> tuple[Observable, int]:
        """Return :meth:`whole` as a function of one image, (1, C, H, W), but for a constant.

        And the number of steps that it moves.
        """
        parts: list[tuple[Problem, float, Sequence[Tensor]]] = []
        steps = 1
        for client, share, batches in zip(self.clients, self._shares, self.batches, strict=True):
            used = [place for place, batch in enumerate(batches) if bool((batch == index).any())]
            if not used:
                continue
            if self._separable and len(batches) == 1:
                size = len(batches[0]) if self._plain else client.observation.recipe.batch_size
                parts.append((client, share / size, ()))
            else:
                parts.append((client, share, batches))
                steps = max(steps, len(batches) - used[0])
        target = self.targets[index : index + 1]

        def among(image: Tensor, batch: Tensor) -> Tensor:
            if not bool((batch == index).any()):
                return images[batch]
            chosen = [image if i == index else images[i : i + 1] for i in batch.tolist()]
            return torch.cat(chosen)

        def observed(image: Tensor) -> StateDict:
            found = []
            for client, share, batches in parts:
                if batches:
                    one = self._of_client(client, batches, [among(image, b) for b in batches])
                else:
                    one = client.expected(self.weights, image, target)
                found.append({name: share * value for name, value in one.items()})
            return {n: torch.stack([one[n] for one in found]).sum(0) for n in found[0]}

        return observed, steps

    def _of_client(
        self, client: Problem, batches: Sequence[Tensor], images: Sequence[Tensor]
    ) -> StateDict:
        """Return what one client's update tells after training on the images of its steps."""
        targets = [self.targets[batch] for batch in batches]
        if self._gradient or (len(batches) == 1 and self._plain):
            return client.expected(self.weights, images[0], targets[0])
        return trained_weights(client, self.weights, list(zip(images, targets, strict=True)))


def _recipe_batches(clients: Sequence[Problem]) -> list[list[Tensor]]:
    """Return the mini-batches of an update's clients as their recipe makes them, in order."""
    found, first = [], 0
    for client in clients:
        found.append([first + batch for batch in assumed_batches(client.observation)])
        first += client.observation.images
    return found


def probe_signs(count: int, size: int, seed: int) -> Tensor:
    """Return random signs, (count, size)."""
    draw = generator(seed, "probes")
    return torch.randint(0, 2, (count, size), generator=draw, dtype=torch.int8).mul(2).sub(1)
