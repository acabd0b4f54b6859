"""What the low rank of a layer's gradient says of each image by itself.

The gradient of a linear or convolutional layer is a sum over images and positions of outer products
d a^T, of the loss's derivative d in the layer's output and the layer's input a at that position.
Where there are no more of these than outputs, its rank is their number, its rows span the inputs
and its columns the derivatives: G = D^T A with linearly independent rows of A and of D. So the
inputs that each image of a batch has, whatever the others are, lie in a subspace that is known.
That is the span check of Petrov et al., "DAGER: Exact gradient inversion for large language models"
(NeurIPS 2024), after the low-rank decomposition of Dimitrov et al., "SPEAR: Exact gradient
inversion of batches in federated learning" (NeurIPS 2024). Both search a finite set, of tokens or
of ReLU patterns; here the distance from the span is a residual, in units of its noise, whose zeros
in the pixels are the images one by one. Departures: any layer and smooth activation; scales of
images, as clipping makes them, and labels drop out; and images that are found are taken off by
projecting the columns of G on the complement of their derivatives, for the next to be found.

The update of several steps of SGD is such a sum as well, each image's d and a taken at the weights
at which its step began; so at these the inputs of that image lie in the span, and of no other.

With entries of G that have noise of deviation s, a = G^T u + e has e of deviation s ||u|| in each
entry outside the span.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import vjp
from torch.nn import functional

from adversary.common.seeding import generator
from adversary.common.types import StateDict
from adversary.problem.problem import Problem
from adversary.problem.residuals import second_directional_derivative, separable
from adversary.problem.sparse_jacobian import SparseJacobian
from adversary.problem.update_models import UNROLLED_STEPS, told_without_gradients

EQUATIONS_PER_PIXEL = 4.0
"""Random combinations of the equations that are matched, by pixel."""

MIN_VISIBLE = 0.5
"""Share of the rank that must be above the noise."""

MIN_TAIL = 4
"""Singular values beyond the rank, from which on they tell the noise."""


@dataclass(frozen=True)
class Span:
    """The signal part of a matrix of low rank, G = U diag(s) V + noise.

    Parameters
    ----------
    basis : Tensor
        V, (r, inputs), of orthonormal rows.
    values : Tensor
        s, (r,), > 0.
    noise : float
        Standard deviation of an entry of G.
    """

    basis: Tensor
    values: Tensor
    noise: float

    @classmethod
    def of(cls, matrix: Tensor, rank: int, least_noise: float) -> Span:
        """Return that of a matrix, with the noise that its further singular values show."""
        _, values, basis = torch.linalg.svd(matrix, full_matrices=False)
        noise, tail = least_noise, values[rank:]
        if len(tail) >= MIN_TAIL:
            noise = max(float(tail.square().mean() / max(matrix.shape)) ** 0.5, least_noise)
        return cls(basis[:rank], values[:rank].clamp_min(1e-300), noise)

    def deviation(self, inputs: Tensor) -> Tensor:
        """Return the noise that rows, (L, inputs), in the span have outside of it, (L,)."""
        return self.noise * (inputs @ self.basis.T / self.values).norm(dim=1).clamp_min(1e-300)

    def complement(self, count: int, seed: int) -> Tensor:
        """Return random orthonormal columns outside the span, (inputs, count)."""
        inputs = self.basis.shape[1]
        draw = torch.randn(inputs, count, generator=generator(seed, "complement")).to(self.basis)
        outside = draw - self.basis.T @ (self.basis @ draw)
        columns = torch.linalg.qr(outside)[0]
        return columns - self.basis.T @ (self.basis @ columns)


@dataclass(frozen=True)
class LayerGradient:
    """The gradient of a layer whose rank counts the images.

    Parameters
    ----------
    problem : Problem
        In float64.
    layer : str
        Name of a linear or convolutional layer.
    matrix : Tensor
        G, (outputs, inputs).
    positions : int
        Of one image.
    images : int
        In the update.
    """

    problem: Problem
    layer: str
    matrix: Tensor
    positions: int
    images: int

    @property
    def noise(self) -> float:
        """Standard deviation of an entry of G."""
        return self.problem.sigma(f"{self.layer}.weight")

    @property
    def rank(self) -> int:
        """Of the matrix without noise."""
        return self.positions * self.images

    @property
    def visible_rank(self) -> int:
        """Number of singular values above those of noise alone."""
        edge = self.noise * sum(n**0.5 for n in self.matrix.shape)
        return int((torch.linalg.svdvals(self.matrix) > edge).sum())

    @property
    def suffices(self) -> bool:
        """Whether the layer has room for the rank, and enough of it is seen."""
        return self.rank <= len(self.matrix) and self.visible_rank >= MIN_VISIBLE * self.rank

    @property
    def equations(self) -> int:
        """Equations that the span gives for one image."""
        return self.positions * (self.matrix.shape[1] - self.rank)

    def at(self, weights: StateDict) -> LayerGradient:
        """Return the same gradient, for inputs and derivatives at other weights of the network."""
        model = copy.deepcopy(self.problem.model)
        model.load_state_dict(weights, strict=False)
        return replace(self, problem=replace(self.problem, model=model))

    def features(self, images: Tensor) -> Tensor:
        """Return what images, (B, C, H, W), put into the layer, (B, ...)."""
        seen: list[Tensor] = []
        hook = self._module.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        try:
            self.problem.model(images)
        finally:
            hook.remove()
        return seen[0]

    def inputs(self, image: Tensor) -> Tensor:
        """Return the layer's inputs at each position, (L, inputs), of (1, C, H, W)."""
        return _rows(self._module, self.features(image))

    @property
    def _module(self) -> nn.Module:
        return self.problem.model.get_submodule(self.layer)

    @cached_property
    def jacobian(self) -> SparseJacobian:
        """That of the features of an image, (features, n)."""
        blank = torch.zeros(1, *self.problem.shape[1:])
        return SparseJacobian(self.features, blank.to(self.problem.device, self.problem.dtype))

    @cached_property
    def places(self) -> Tensor:
        """Which feature is which input of a position, (L, inputs), on the CPU; -1 for padding."""
        blank = torch.zeros(1, *self.problem.shape[1:])
        features = self.features(blank.to(self.problem.device, self.problem.dtype))
        numbers = torch.arange(1.0, features.numel() + 1, dtype=torch.float64)
        return _rows(self._module, numbers.view_as(features)).long() - 1

    def derivatives(self, image: Tensor, target: Tensor) -> Tensor:
        """Return the loss's derivative in the layer's outputs, (L, outputs), of an image."""
        seen: list[Tensor] = []
        layer = self.problem.model.get_submodule(self.layer)
        hook = layer.register_forward_hook(lambda _m, _i, out: seen.append(out))
        try:
            with torch.enable_grad():
                tracked = image.detach().requires_grad_(True)
                logits = self.problem.model(tracked)
                loss = self.problem.mean_loss(logits, target)
                (found,) = torch.autograd.grad(loss, seen[0])
        finally:
            hook.remove()
        return found[0].flatten(1).T if found.ndim == 4 else found.reshape(-1, found.shape[-1])

    def agreement(self, image: Tensor, target: Tensor) -> float:
        """Return how well a label, (1, outputs), agrees with an image's share of G, in [-1, 1].

        The share c d^T a of each position has A G^+ D^T = 1/c, the same for all of them, with c >
        0 for the right label; a wrong label has other derivatives, or those of the other sign.
        """
        left, values, basis = torch.linalg.svd(self.matrix, full_matrices=False)
        r = min(self.rank, len(values))
        dual = self.inputs(image) @ basis[:r].T / values[:r] @ left[:, :r].T
        found = dual @ self.derivatives(image, target).T
        return float(found.trace() / (found.norm() * len(found) ** 0.5).clamp_min(1e-300))

    def span(self, found: Sequence[Tensor] = ()) -> Span:
        """Return the span of the inputs of all images but those of given derivatives."""
        matrix, rank = self.matrix, self.positions * (self.images - len(found))
        if found:
            taken = torch.linalg.qr(torch.cat(list(found)).T)[0]
            matrix = matrix - taken @ (taken.T @ matrix)
        return Span.of(matrix, min(rank, *matrix.shape), self._least_noise)

    def misfit(self, span: Span, image: Tensor) -> float:
        """Return the mean squared residual of an image's inputs outside a span."""
        return float(SpanEquations(self, span, image)(image).square().mean())

    @property
    def _least_noise(self) -> float:
        """Noise that the whole matrix shows, where its rank leaves room for it."""
        return Span.of(self.matrix, self.rank, 0.0).noise or self.noise


def layer_gradient(problem: Problem) -> LayerGradient | None:
    """Return the layer whose gradient tells several images apart; None where none does.

    Of images that have gradients of their own and count in one step of SGD each, of a layer of
    which all was sent, and whose rank leaves at least as many equations as an image has pixels.
    """
    several = problem.shape[0] > 1 and not problem.threat.channel.intervals
    if not (several and _counts_once(problem) and separable(problem)):
        return None
    least = math.prod(problem.shape[1:])
    found = [one for one in _layers(problem) if one.suffices and one.equations >= least]
    return max(found, key=lambda one: len(one.matrix) / one.rank, default=None)


def _counts_once(problem: Problem) -> bool:
    """Return whether the update is a sum of one gradient of each image, at whatever weights."""
    seen, channel = problem.observation, problem.threat.channel
    if seen.recipe.optimizer != "sgd" or problem.beyond:
        return False
    if seen.steps == 1:
        return True
    once = seen.steps == math.ceil(seen.images / seen.recipe.batch_size) <= UNROLLED_STEPS
    return once and seen.view == "client" and math.isinf(channel.example_clip)


def _layers(problem: Problem) -> Iterator[LayerGradient]:
    counts: dict[str, int] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            counts[name] = len(_rows(module, args[0]))

        return hook

    layers = {n: m for n, m in problem.model.named_modules() if _readable(m)}
    hooks = [layer.register_forward_pre_hook(note(name)) for name, layer in layers.items()]
    try:
        with torch.no_grad():
            problem.model(torch.zeros(1, *problem.shape[1:]).to(problem.device, problem.dtype))
    finally:
        for hook in hooks:
            hook.remove()
    several = problem.observation.steps > 1
    decayed = told_without_gradients(problem.observation) if several else 0.0
    for name, positions in counts.items():
        weight = f"{name}.weight"
        if weight not in problem.gradient or weight in problem.threat.channel.observed:
            continue
        matrix = (problem.gradient[weight] - decayed * layers[name].weight).flatten(1)
        yield LayerGradient(problem, name, matrix, positions, problem.shape[0])


def with_counted_images(problem: Problem) -> Problem:
    """Return the problem with as many images as the rank of a layer's gradient counts.

    Of a Poisson batch only the expected size b is known. A step of B images whose sum is divided by
    b is one of their mean at B/b times the learning rate. Other problems stay as they are.
    """
    seen, channel = problem.observation, problem.threat.channel
    recipe = seen.recipe
    drawn = math.isfinite(channel.example_clip) and seen.view == "client" and seen.steps == 1
    if not drawn or recipe.update != "weights" or any(channel.noise.values()):
        return problem
    ranks = [
        (one.visible_rank, one.positions)
        for one in _layers(problem)
        if one.visible_rank < min(one.matrix.shape)
    ]
    if not ranks:
        return problem
    rank, positions = max(ranks)
    share = max(1, math.ceil(rank / positions)) / recipe.batch_size
    recipe = replace(
        recipe,
        batch_size=round(share * recipe.batch_size),
        lr=share * recipe.lr,
        weight_decay=recipe.weight_decay / share,
    )
    return replace(
        problem,
        observation=replace(seen, recipe=recipe),
        gradient={n: g / share for n, g in problem.gradient.items()},
        shape=(recipe.batch_size, *problem.shape[1:]),
    )


class SpanEquations:
    """x -> distance of a layer's inputs from a span, in units of its noise, of (1, C, H, W).

    Parameters
    ----------
    layer : LayerGradient
        Whose inputs.
    span : Span
        In which they lie.
    image : Tensor
        (1, C, H, W), near which the noise is taken.
    seed : int
        Of the random combinations.
    """

    def __init__(self, layer: LayerGradient, span: Span, image: Tensor, seed: int = 0) -> None:
        self.layer, self.span = layer, span
        outside = layer.matrix.shape[1] - len(span.values)
        wanted = math.ceil(EQUATIONS_PER_PIXEL * image.numel() / layer.positions)
        self._combinations = span.complement(min(outside, wanted), seed)
        self.scale = self.noise(image)

    def noise(self, image: Tensor) -> Tensor:
        """Return the standard deviation of the residuals of each position at an image, (L,)."""
        with torch.no_grad():
            return self.span.deviation(self.layer.inputs(image))

    def __call__(self, images: Tensor) -> Tensor:
        """Return the residuals, (m,)."""
        inputs = self.layer.inputs(images)
        return (inputs @ self._combinations / self.scale[:, None]).flatten()

    def __len__(self) -> int:
        """Return m."""
        return self.scale.numel() * self._combinations.shape[1]

    @property
    def tangents(self) -> int:
        """Forward derivatives that :meth:`normal` takes."""
        return self.layer.jacobian.tangents

    def normal(self, image: Tensor) -> Tensor:
        """Return J^T J, (n, n), position by position: each sees a window of the image."""
        features = self.layer.jacobian(image)
        found = torch.zeros(image.numel(), image.numel(), dtype=image.dtype)
        combinations, scale = self._combinations.cpu(), self.scale.cpu()
        for places, deviation in zip(self.layer.places, scale, strict=True):
            inside = places >= 0
            rows = features[places[inside].numpy()]
            pixels = np.unique(rows.indices)
            seen = torch.from_numpy(rows[:, pixels].toarray())
            told = combinations[inside].T @ seen / deviation
            found[np.ix_(pixels, pixels)] += told.T @ told
        return found.to(image.device)

    def bend(self, images: Tensor, tangent: Tensor) -> Tensor:
        """Return the second derivative along v, (m,), of (1, C, H, W)."""
        return second_directional_derivative(self, images, tangent)

    def pullback(self, images: Tensor) -> Callable[[Tensor], Tensor]:
        """Return u -> J^T u, from (m,) to (n,)."""
        pull = vjp(self, images)[1]
        return lambda cotangent: pull(cotangent)[0].flatten()


def _readable(module: nn.Module) -> bool:
    """Return whether the gradient of a layer is a sum of outer products over its positions."""
    if isinstance(module, nn.Conv2d):
        plain = module.groups == 1 and module.padding_mode == "zeros"
        return plain and not isinstance(module.padding, str)
    return type(module) is nn.Linear


def _rows(module: nn.Module, inputs: Tensor) -> Tensor:
    """Return what each position of one image puts into a layer, (L, inputs)."""
    if not isinstance(module, nn.Conv2d):
        return inputs.reshape(-1, inputs.shape[-1])
    patches = functional.unfold(
        inputs,
        module.kernel_size,
        dilation=module.dilation,
        padding=cast(tuple[int, int], module.padding),
        stride=module.stride,
    )
    return patches[0].T
