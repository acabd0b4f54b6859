"""What the local training was, as far as an update tells: steps, optimiser, rates.

A server that prescribes the training knows all of it. Around somebody else's app some of it is
not told, and what is told can be wrong. Steps are counted by batch normalisation; rates are read
from the sizes of what moved, and are estimates.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional

from adversary.common.seeding import generator
from adversary.observation.batch_statistics import counted_steps
from adversary.observation.mean_gradient import total_step_weights
from adversary.observation.observation import Observation
from adversary.observation.recipe import TrainingRecipe
from adversary.observation.threat_model import ThreatModel
from adversary.priors.public import Prior
from adversary.problem.problem import Problem, build_problem, image_prior

CONTRADICTED = "recipe-contradicted"
"""Flag of an update that does not fit what was told of it."""

MOMENTA = (0.0, 0.9)
"""Of SGD, between which an estimate decides."""

MAX_SURROGATES = 32
"""Images of nobody on which the size of a gradient is estimated."""

MAX_OFF = 8.0
"""Factor by which a rate that was told may differ from its estimate."""

MAX_ADAM_SPREAD = 3.0
"""Factor between the largest steps of arrays up to which an optimiser is taken for Adam."""

_MIN_ARRAY, _MIN_ARRAYS = 4, 4
"""Entries of an array, and arrays, from which on the optimiser is recognised."""

ROUGHLY = "which tells it within a factor of four or so"

RATE_FACTORS = tuple(2**n for n in range(8))
"""Above the least rate that a last layer's bias allows, where the rate is looked for."""


@dataclass(frozen=True)
class Fit:
    """A recipe and a number of images that fit an update, and what was changed or assumed."""

    recipe: TrainingRecipe
    images: int
    notes: tuple[str, ...] = ()
    contradicted: bool = False


def reconciled(
    observation: Observation,
    model: nn.Module,
    *,
    image_shape: tuple[int, int, int],
    told: Collection[str],
    prior: Prior | None = None,
) -> Observation:
    """Return an update with a recipe that fits it; ``notes`` and ``flags`` say what was done.

    Parameters
    ----------
    observation : Observation
        With what was told, and defaults for the rest.
    model : nn.Module
        The architecture, which takes images in [0, 1].
    image_shape : tuple of int
        (C, H, W).
    told : collection of str
        The fields of the recipe that the app tells; others are estimated.
    prior : Prior, optional
        Public images, for the size of a gradient.
    """
    fit = fitted_steps(observation, told)
    seen = dataclasses.replace(observation, recipe=fit.recipe, num_examples=fit.images)
    rates = _fitted_rates(seen, model, image_shape, told, prior)
    contradicted = fit.contradicted or rates.contradicted
    return dataclasses.replace(
        seen,
        recipe=rates.recipe,
        notes=(*observation.notes, *fit.notes, *rates.notes),
        flags=(*observation.flags, *([CONTRADICTED] if contradicted else [])),
    )


def fitted_steps(observation: Observation, told: Collection[str]) -> Fit:
    """Return the recipe and number of images that have as many steps as were counted."""
    recipe, images = observation.recipe, observation.num_examples
    counted = counted_steps(observation) - {0}
    if len(counted) != 1 or observation.view != "client" or recipe.update == "gradient":
        if "batch_size" in told:
            return Fit(recipe, images)
        note = f"batch size {recipe.batch_size}: assumed; nothing in the update counts its steps"
        return Fit(recipe, images, (note,))
    [steps] = counted
    if "batch_size" not in told:
        return _batch_size(recipe, images, steps)
    if recipe.steps(images) == steps:
        return Fit(recipe, images)
    return _other_steps(recipe, images, steps, told)


def _batch_size(recipe: TrainingRecipe, images: int, steps: int) -> Fit:
    """Return the batch size with which whole epochs over the images take so many steps."""
    an_epoch = max(1, steps // recipe.local_epochs)
    size = math.ceil(images / an_epoch)
    found = dataclasses.replace(recipe, batch_size=size, max_steps=0)
    if found.steps(images) != steps:
        epochs = math.ceil(steps / math.ceil(images / size))
        found = dataclasses.replace(found, local_epochs=epochs, max_steps=steps)
    note = f"batch size {size}: estimated from {steps} counted steps and {images} images"
    return Fit(found, images, (note,))


def _other_steps(recipe: TrainingRecipe, images: int, steps: int, told: Collection[str]) -> Fit:
    """Return what of epochs, batches and images explains another number of steps than was told."""
    size, epochs = recipe.batch_size, recipe.local_epochs
    batches = math.ceil(images / size)
    said = f"{steps} steps were counted, {recipe.steps(images)} are told"
    if "drop_last" not in told and steps == epochs * (images // size):
        note = f"{said}: images that fill no whole batch sit out"
        return Fit(dataclasses.replace(recipe, drop_last=True), images, (note,))
    if size > 1 and steps == epochs * images:
        note = f"{said}: num-examples counts batches; there are up to {images * size} images"
        return Fit(recipe, images * size, (note,), contradicted=True)
    if steps % batches == 0 and "local_epochs" not in told:
        note = f"{steps // batches} local epochs: estimated from {steps} counted steps"
        return Fit(dataclasses.replace(recipe, local_epochs=steps // batches), images, (note,))
    found = dataclasses.replace(
        recipe, local_epochs=max(1, math.ceil(steps / batches)), max_steps=steps
    )
    return Fit(found, images, (f"{said}: taken for those counted",), contradicted=True)


def _fitted_rates(
    observation: Observation,
    model: nn.Module,
    image_shape: tuple[int, int, int],
    told: Collection[str],
    prior: Prior | None,
) -> Fit:
    """Return the recipe with learning rate, momentum and optimiser that fit what moved."""
    recipe, images = observation.recipe, observation.num_examples
    plain = dataclasses.replace(recipe, lr=1.0, momentum=0.0, weight_decay=0.0, optimizer="sgd")
    problem = build_problem(
        dataclasses.replace(observation, recipe=plain),
        ThreatModel(),
        model,
        image_shape=image_shape,
        prior=prior,
    )
    if recipe.update == "gradient":
        return Fit(recipe, images)
    if recipe.optimizer == "adam" or ("optimizer" not in told and moved_by_adam(problem)):
        return _adam(recipe, images, problem, told)
    rate = mean_rate(problem)
    if rate is None:
        return Fit(recipe, images, ("learning rate: nothing moved that tells it",))
    return _sgd(recipe, images, observation.steps, rate, told)


def _adam(recipe: TrainingRecipe, images: int, problem: Problem, told: Collection[str]) -> Fit:
    """Return a recipe of Adam; its first steps are as long as the learning rate."""
    largest = median(float(g.abs().max()) for g in problem.gradient.values())
    notes = () if recipe.optimizer == "adam" else ("Adam: recognised by the sizes of its steps",)
    found = dataclasses.replace(recipe, optimizer="adam", momentum=0.0)
    if "lr" in told:
        return Fit(found, images, notes)
    note = f"learning rate {largest:.2g}: estimated, of Adam"
    return Fit(dataclasses.replace(found, lr=largest), images, (*notes, note))


def _sgd(
    recipe: TrainingRecipe, images: int, steps: int, rate: float, told: Collection[str]
) -> Fit:
    """Return a recipe of SGD whose steps are as long as those seen, ``rate`` on average."""
    notes = []
    if "momentum" not in told and "lr" in told and steps > 1:
        momentum = min(MOMENTA, key=lambda m: abs(math.log(_mean(recipe, steps, m) / rate)))
        if momentum != recipe.momentum:
            notes.append(f"momentum {momentum:g}: estimated from the size of the update, {ROUGHLY}")
        recipe = dataclasses.replace(recipe, momentum=momentum)
    if "lr" not in told:
        lr = recipe.lr * rate / _mean(recipe, steps, recipe.momentum)
        recipe = dataclasses.replace(recipe, lr=lr)
        with_ = f", with momentum {recipe.momentum:g}" if steps > 1 else ""
        notes.append(
            f"learning rate {lr:.2g}{with_}: estimated from the size of the update, {ROUGHLY}"
        )
        return Fit(recipe, images, tuple(notes))
    off = rate / _mean(recipe, steps, recipe.momentum)
    if not 1 / MAX_OFF < off < MAX_OFF:
        notes.append(
            f"the update is about {off if off > 1 else 1 / off:.0f} times "
            f"{'larger' if off > 1 else 'smaller'} than learning rate and steps would have it"
        )
    return Fit(recipe, images, tuple(notes), not 1 / MAX_OFF < off < MAX_OFF)


def _mean(recipe: TrainingRecipe, steps: int, momentum: float) -> float:
    """Return the mean step under gradients of 1."""
    return total_step_weights(recipe.rates(steps), momentum) / steps


def moved_by_adam(problem: Problem) -> bool:
    """Return whether the largest step of every array is about the same, as with Adam alone.

    Gradients differ by orders of magnitude between layers; Adam takes their size out.
    """
    arrays = [g for g in problem.gradient.values() if g.numel() >= _MIN_ARRAY]
    largest = sorted(float(g.abs().max()) for g in arrays)
    if len(largest) < _MIN_ARRAYS or largest[0] <= 0:
        return False
    tenth = len(largest) // 10
    return largest[-1 - tenth] / largest[tenth] < MAX_ADAM_SPREAD


def mean_rate(problem: Problem) -> float | None:
    """Return the mean step per gradient of 1, of an update read at a rate of 1 by plain SGD.

    Where a class is surely absent from the images the last layer tells it; else what moved is
    compared with the gradients of images of nobody, which is right within a factor of a few.
    """
    exact = _rate_of_absent_class(problem)
    return exact if exact is not None else _rate_by_surrogates(problem)


def _rate_of_absent_class(problem: Problem) -> float | None:
    r"""Return the rate that the last layer tells of a class that no image has.

    There :math:`\Delta b_c = -r\,\bar p_c`, and :math:`\Delta W_c / \Delta b_c` is the mean
    encoding of the images weighted by :math:`p_c`, at which the layer gives :math:`\bar p_c`.
    Exact for one image and one step.
    """
    head, fewer = problem.head, problem.shape[0] < problem.outputs
    if not head.complete or problem.loss != "cross-entropy" or not fewer:
        return None
    (matrix, bias), (weight, offset), rates = head.gradient, head.layer, []
    for index in torch.nonzero(bias > 0.1 * bias.max()).flatten().tolist():
        encoding = matrix[index] / bias[index]
        probability = (weight @ encoding + offset).softmax(0)[index]
        rates.append(float(bias[index] / probability))
    return max(rates, default=None)


def _rate_by_surrogates(problem: Problem) -> float | None:
    """Return the rate at which images of nobody would have moved the arrays as far.

    How often each class occurs follows from the last layer's bias once the rate is known, so that
    the rate is looked for at which both agree.
    """
    draw = generator(0, "surrogates")
    images = _surrogates(problem, max(2, min(problem.shape[0], MAX_SURROGATES)), draw)
    with torch.no_grad():
        outputs = problem.model(images).softmax(1).mean(0)
    bias = problem.head.bias_gradient
    if problem.loss != "cross-entropy" or bias is None or not bool((bias > 0).any()):
        return _median_ratio(problem, images, torch.full_like(outputs, 1 / len(outputs)))
    least = float((bias / outputs).max())
    found = []
    for factor in RATE_FACTORS:
        shares = (outputs - bias / (least * factor)).clamp_min(0)
        if (rate := _median_ratio(problem, images, shares)) is not None:
            found.append((abs(math.log(rate / (least * factor))), rate))
    return min(found)[1] if found else None


def _median_ratio(problem: Problem, images: Tensor, shares: Tensor) -> float | None:
    """Return how much further the arrays moved than by images with classes of these shares.

    Labels differ from their shares by as much as they do among all images of the update.
    """
    draw = generator(0, "surrogate labels")
    if problem.loss == "cross-entropy":
        mean = (shares / shares.sum()).cpu().expand(len(images), -1)
        labels = mean[0].multinomial(len(images), replacement=True, generator=draw)
        drawn = functional.one_hot(labels, problem.outputs).to(mean)
    else:
        mean = torch.full((len(images), problem.outputs), 0.5)
        drawn = mean.bernoulli(generator=draw)
    fewer = min(1.0, len(images) / problem.shape[0])
    targets = (mean + (drawn - mean) * fewer**0.5).to(images)
    expected = problem.step_gradient(problem.parameters, images, targets)
    ratios = [
        float(problem.gradient[name].norm() / size)
        for name in problem.gradient
        if (size := expected[name].norm()) > 0 and bool((problem.gradient[name] != 0).any())
    ]
    return median(ratios) if ratios else None


def _surrogates(problem: Problem, count: int, draw: torch.Generator) -> Tensor:
    """Return images of nobody, (count, C, H, W): public ones, or samples of smooth ones."""
    if problem.prior is not None and len(problem.prior.images) >= count:
        return problem.prior.images[:count].to(problem.device, problem.dtype)
    return image_prior(problem).sample(count, generator=draw).clamp(0, 1).to(problem.dtype)
