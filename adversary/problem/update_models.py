"""How an update of several local steps is read: what candidate images would have to explain."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.func import vmap

from adversary.common.types import StateDict, Variables
from adversary.observation.mean_gradient import total_step_size
from adversary.observation.observation import Observation, ObservationError
from adversary.observation.recipe import TrainingRecipe
from adversary.problem.client_optimizers import CLIENT_OPTIMIZERS
from adversary.problem.problem import Problem
from adversary.problem.weight_path import interpolated_weights

UNROLLED_STEPS = 16
"""Most local steps that ``auto`` unrolls: time and memory grow with each."""


FIXED_POINT_STEPS = 12
"""Iterations in which a step is undone; each divides the error by 1 / (lr times the curvature)."""


class UpdateModel(ABC):
    """Forward model from candidate images to the observed mean gradient.

    For an update of one step all readings are the same, and exact.
    """

    name: ClassVar[str]

    def variables(self, problem: Problem, restarts: int) -> Variables:
        """Return what is optimised beside the images, (R, ...) each; nothing by default."""
        return {}

    def project(self, variables: Variables) -> None:  # noqa: B027 (a default: nothing to do)
        """Put :meth:`variables` back into their allowed set, in place."""

    @abstractmethod
    def gradients(self, problem: Problem, variables: Variables, targets: Tensor) -> StateDict:
        """Return what candidates would make the server read, (R, ...) by parameter.

        Parameters
        ----------
        problem : Problem
            What the attacker knows.
        variables : dict of str to Tensor
            ``images``, (R, B, C, H, W), and :meth:`variables`.
        targets : Tensor
            (R, B, outputs).
        """


class SingleGradient(UpdateModel):
    """All steps at the weights that were sent: right to first order in the learning rate."""

    name = "one-gradient"

    def gradients(self, problem: Problem, variables: Variables, targets: Tensor) -> StateDict:
        """Return the gradients at the sent weights."""
        return problem.gradients(variables["images"], targets)


class Surrogate(UpdateModel):
    """One gradient at weights between those sent and those returned.

    Zhu, Yao and Blaschko, "Surrogate model extension (SME): a fast and accurate weight update
    attack on federated learning", ICML 2023. The position on the line from the sent weights (0)
    to the returned ones (1) is optimised with the images. As cheap as one gradient however many
    steps there were.
    """

    name = "surrogate"

    def variables(self, problem: Problem, restarts: int) -> Variables:
        """Return the positions, (R, 1), from the middle."""
        middle = torch.full((restarts, 1), 0.5, device=problem.device, dtype=problem.dtype)
        return {"position": middle}

    def project(self, variables: Variables) -> None:
        """Keep the positions on the line."""
        variables["position"].clamp_(0, 1)

    def gradients(self, problem: Problem, variables: Variables, targets: Tensor) -> StateDict:
        """Return the gradients at the surrogate weights."""
        surrogates = interpolated_weights(problem, variables["position"][:, 0])
        return problem.gradients(variables["images"], targets, surrogates)


class Unrolled(UpdateModel):
    """The client's local training itself, differentiated through every step.

    Geiping et al. 2020, section 5, without being told the batches: their order is unknown, and
    any that explains the update will do, so candidate images are taken in their own order. Where
    images are used in several epochs the same order is assumed in each.
    """

    name = "unrolled"

    def gradients(self, problem: Problem, variables: Variables, targets: Tensor) -> StateDict:
        """Return the mean gradients that local training on the candidates would tell."""
        parameters = problem.parameters

        def of_one(images: Tensor, targets: Tensor) -> StateDict:
            return unrolled(problem, parameters, images, targets)

        images = variables["images"]
        if len(images) == 1:
            return {n: g[None] for n, g in of_one(images[0], targets[0]).items()}
        return vmap(of_one)(images, targets)


UPDATE_MODELS: dict[str, type[UpdateModel]] = {
    cls.name: cls for cls in (SingleGradient, Surrogate, Unrolled)
}


def select(name: str, observation: Observation) -> UpdateModel:
    """Return the reading of that name; ``auto`` unrolls up to :data:`UNROLLED_STEPS` steps.

    An update of one step, and an aggregate, whose members' steps are not those of one client,
    are read as one gradient. Several steps of Adam can only be unrolled.

    Raises
    ------
    ObservationError
        If another reading is asked for where the clients used Adam.
    """
    if observation.steps == 1 or observation.view == "aggregate":
        return SingleGradient()
    if observation.recipe.optimizer == "adam":
        if name not in ("auto", Unrolled.name):
            raise ObservationError(
                f"adversary.reading = {name!r}: {observation.steps} local steps of Adam are no sum "
                "of gradients; must be auto or unrolled"
            )
        return Unrolled()
    if name == "auto":
        name = "unrolled" if observation.steps <= UNROLLED_STEPS else "surrogate"
    return UPDATE_MODELS[name]()


def assumed_batches(observation: Observation) -> list[Tensor]:
    """Return mini-batches of the update's images, numbered in the order of their first use."""
    size = observation.recipe.batch_size
    epoch = list(torch.arange(observation.images).split(size))
    return [epoch[step % len(epoch)] for step in range(observation.steps)]


def mini_batches(
    recipe: TrainingRecipe, images: int, steps: int, generator: torch.Generator
) -> list[Tensor]:
    """Return mini-batches of a client with that many images, each epoch shuffled anew."""
    found: list[Tensor] = []
    while len(found) < steps:
        found += torch.randperm(images, generator=generator).split(recipe.batch_size)
    return found[:steps]


def unrolled(
    problem: Problem,
    parameters: StateDict,
    images: Tensor,
    targets: Tensor,
    batches: Sequence[Tensor] | None = None,
) -> StateDict:
    """Return the mean gradient that an update would tell, after training on a candidate batch.

    A pure function, for ``torch.func``; what
    :func:`adversary.observation.mean_gradient.mean_gradient` makes of an observation, worked out
    forwards. All of the recipe counts: optimiser, momentum, weight decay, the learning rate of
    every step, class weights and the proximal term.

    Parameters
    ----------
    problem : Problem
        What the attacker knows.
    parameters : dict of str to Tensor
        The weights that were sent.
    images : Tensor
        (B, C, H, W), all images of the update in the order of their first use.
    targets : Tensor
        (B, outputs).
    batches : sequence of Tensor, optional
        Images of each step, as indices (b,); by default :func:`assumed_batches`.
    """
    batches = assumed_batches(problem.observation) if batches is None else batches
    return trained_weights(
        problem, parameters, [(images[batch], targets[batch]) for batch in batches]
    )


def trained_weights(
    problem: Problem, parameters: StateDict, steps: Sequence[tuple[Tensor, Tensor]]
) -> StateDict:
    """Return what :func:`unrolled` does, of the images and targets of each step by themselves.

    So that what went before images that are differentiated is not differentiated with them.
    """
    gradients = [partial(_step, problem, images=x, targets=y) for x, y in steps]
    seen = problem.observation
    weights = _trained(seen.recipe, parameters, gradients, seen.recipe.rates(seen.steps))
    return problem.through_channel(_told(seen, parameters, weights))


def local_training(
    problem: Problem, parameters: StateDict, steps: Sequence[tuple[Tensor, Tensor]]
) -> StateDict:
    """Return the client's weights after its first steps, of the images and targets of each."""
    gradients = [partial(_step, problem, images=x, targets=y) for x, y in steps]
    seen = problem.observation
    rates = seen.recipe.rates(seen.steps)[: len(steps)]
    return _trained(seen.recipe, parameters, gradients, rates)


def told_without_gradients(observation: Observation) -> float:
    """Return what the update of a weight of 1 tells whose gradients are 0: what decay does."""
    sent = {"": torch.ones((), dtype=torch.float64)}
    rates = observation.recipe.rates(observation.steps)
    nothing = [lambda weights: {"": torch.zeros_like(weights[""])}] * len(rates)
    weights = _trained(observation.recipe, sent, nothing, rates)
    return float(_told(observation, sent, weights)[""])


def _trained(
    recipe: TrainingRecipe,
    sent: StateDict,
    gradients: Sequence[Callable[[StateDict], StateDict]],
    rates: Sequence[float],
) -> StateDict:
    """Return the weights after steps, each by the gradient at the weights before it."""
    step = CLIENT_OPTIMIZERS[recipe.optimizer](recipe)
    weights = dict(sent)
    for gradient, rate in zip(gradients, rates, strict=True):
        pulls = gradient(weights)
        if recipe.weight_decay:
            pulls = {n: g + recipe.weight_decay * weights[n] for n, g in pulls.items()}
        if recipe.proximal_mu:
            pulls = {n: g + recipe.proximal_mu * (weights[n] - sent[n]) for n, g in pulls.items()}
        weights = step(weights, pulls, rate)
    return weights


def _told(observation: Observation, sent: StateDict, weights: StateDict) -> StateDict:
    """Return the mean gradient that weights tell in which a client ended."""
    scale, recipe = total_step_size(observation), observation.recipe
    told = {n: (w - weights[n]) / scale for n, w in sent.items()}
    if recipe.optimizer == "sgd" and recipe.weight_decay:
        told = {n: g - recipe.weight_decay * sent[n] for n, g in told.items()}
    return told


def can_be_undone(problem: Problem) -> bool:
    """Return whether the weights before a step follow from those after it and its images.

    Of plain SGD, whose weights came back as they were.
    """
    recipe, channel = problem.observation.recipe, problem.threat.channel
    plain = not (recipe.momentum or recipe.weight_decay or recipe.proximal_mu)
    whole = not (channel.noise or channel.observed or math.isfinite(channel.clip))
    sgd = recipe.optimizer == "sgd" and recipe.update == "weights"
    return plain and whole and sgd and problem.observation.view == "client"


def before_step(
    problem: Problem, after: StateDict, images: Tensor, targets: Tensor, rate: float
) -> StateDict:
    """Return the weights w at which a step on images ended at others, where :func:`can_be_undone`.

    The fixed point of w = w_after + lr g(images; w).

    Parameters
    ----------
    problem : Problem
        What the attacker knows.
    after : dict of str to Tensor
        Where the step ended.
    images : Tensor
        (b, C, H, W), of the step.
    targets : Tensor
        (b, outputs).
    rate : float
        Its learning rate.
    """
    weights = after
    for _ in range(FIXED_POINT_STEPS):
        gradient = problem.step_gradient(weights, images, targets)
        weights = {n: w + rate * gradient[n] for n, w in after.items()}
    return weights


def _step(problem: Problem, weights: StateDict, images: Tensor, targets: Tensor) -> StateDict:
    """Return the gradient of one step; DP-SGD divides the sum by the expected batch size."""
    if math.isinf(problem.threat.channel.example_clip):
        return problem.step_gradient(weights, images, targets)
    if not len(images):  # a Poisson batch may be empty
        return {n: torch.zeros_like(w) for n, w in weights.items()}
    share = len(images) / problem.observation.recipe.batch_size
    return {n: share * g for n, g in problem.step_gradient(weights, images, targets).items()}
