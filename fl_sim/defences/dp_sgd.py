"""DP-SGD in the client."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from adversary.common.seeding import generator as derived
from adversary.common.types import StateDict
from adversary.observation.channel import Channel
from adversary.observation.observation import Observation
from adversary.observation.recipe import TrainingRecipe
from fl_sim.defences.accounting import (
    PrivacySpent,
    default_delta,
    gaussian_account,
    noise_for_budget,
)
from fl_sim.defences.base import Defence, DefenceError, is_buffer
from fl_sim.models import Classifier
from fl_sim.models.adapt import batch_to_group_norm
from fl_sim.models.freezing import set_mode
from fl_sim.training import local_training

if TYPE_CHECKING:
    from opacus.optimizers import DPOptimizer

BATCH_NORMS = ("group", "frozen")
CHUNK_ENTRIES = 2**25
"""Entries of per-example gradients in memory at once: 128 MiB in float32."""


@dataclass(frozen=True, kw_only=True)
class DpSgd(Defence):
    """DP-SGD in the client: Poisson batches, a clipped gradient an image, Gaussian noise.

    Abadi et al. 2016 ("Deep Learning with Differential Privacy"). In each step every image takes
    part with probability batch size over number of images, on its own; the sum of the clipped
    gradients and the noise is divided by the expected batch size. A step in which no image takes
    part is one of noise alone. A client with fewer images than a batch takes all of them in each
    step; the sum is still divided by the batch size.

    Parameters
    ----------
    clip : float
        L2 norm to which the gradient of each image is clipped, > 0.
    noise_multiplier : float
        Standard deviation of the noise on the sum over ``clip``, >= 0; 0 clips only. Used where
        ``epsilon`` is 0.
    epsilon : float
        Budget of each client for all of ``rounds``, > 0; the noise follows from it. 0 is none.
    delta : float
        In (0, 1); 0 is min(0.01, 0.9 / number of the client's images) (Ziegler et al. 2022).
    rounds : int
        How many rounds the budget lasts for; 0 is those of the run.
    batch_norm : {"group", "frozen"}
        Batch normalisation mixes images, so no gradient is that of one: it becomes group
        normalisation, or keeps the statistics that it begins with.
    """

    clip: float = 1.0
    noise_multiplier: float = 1.0
    epsilon: float = 0.0
    delta: float = 0.0
    rounds: int = 0
    batch_norm: str = "group"

    protects = (
        "Bounds what anyone, the server included, can learn from a client's updates about any one "
        "image of it; a patient with several images is protected less. The number of images is "
        "public, and no losses are reported."
    )
    reports_losses = False

    def __post_init__(self) -> None:
        for name, valid, allowed in (
            ("clip", 0 < self.clip < math.inf, "a number > 0"),
            ("noise_multiplier", 0 <= self.noise_multiplier < math.inf, "a number >= 0"),
            ("epsilon", 0 <= self.epsilon < math.inf, "a number > 0, or 0 for no target"),
            ("delta", 0 <= self.delta < 1, "> 0 and < 1, or 0 for the default"),
            ("rounds", self.rounds >= 0, "an integer >= 0"),
            ("batch_norm", self.batch_norm in BATCH_NORMS, f"one of {', '.join(BATCH_NORMS)}"),
        ):
            if not valid:
                raise DefenceError(f"{name} = {getattr(self, name)}: must be {allowed}")

    def describe(self) -> dict[str, bool | int | float | str]:
        """Return the parameters by name, but for the noise where the budget decides on it."""
        parameters = super().describe()
        if self.epsilon:
            del parameters["noise_multiplier"]
        return parameters

    def prepare(self, *, rounds: int, strategy: str, examples: Sequence[int]) -> Self:
        """Return the defence with its budget spread over the rounds of the run."""
        if 0 < self.rounds < rounds:
            raise DefenceError(
                f"defence.rounds = {self.rounds}: the run has {rounds}; must be 0 or >= {rounds}"
            )
        return dataclasses.replace(self, rounds=self.rounds or rounds)

    def recipe(self, recipe: TrainingRecipe) -> TrainingRecipe:
        """Return the recipe; frozen batch normalisation is in eval mode."""
        if recipe.optimizer != "sgd":
            raise DefenceError(
                f"local.optimizer = '{recipe.optimizer}': dp-sgd takes steps of SGD; must be sgd"
            )
        frozen = self.batch_norm == "frozen"
        return dataclasses.replace(recipe, batch_norm="eval") if frozen else recipe

    def model(self, model: Classifier) -> Classifier:
        """Return the model, without batch normalisation where that is to be replaced."""
        if self.batch_norm == "group":
            batch_to_group_norm(model)
        return model

    def batches(
        self, num_examples: int, recipe: TrainingRecipe, *, seed: int, round: int, client: int
    ) -> list[Tensor]:
        """Return as many Poisson samples as the recipe has steps; some may be empty.

        A pure function of its arguments, so that scoring knows the samples; that nobody else
        does is what the account rests on.
        """
        local_training.check_batch_size(num_examples, recipe, client, full=False)
        draw = derived(seed, "Poisson", round, client)
        rate = sample_rate(recipe, num_examples)
        steps = recipe.steps(num_examples)
        chosen = torch.rand(steps, num_examples, generator=draw, dtype=torch.float64) < rate
        return [step.nonzero().flatten() for step in chosen]

    def train(
        self,
        model: Classifier,
        images: Tensor,
        labels: Tensor,
        recipe: TrainingRecipe,
        batches: Sequence[Tensor],
        *,
        generator: torch.Generator,
    ) -> float:
        """Train ``model`` in place; return the mean loss of the images drawn, NaN for none."""
        device = local_training.device_of(model)
        set_mode(model, training=recipe.batch_norm == "train")
        named = {n: p for n, p in model.named_parameters() if p.requires_grad}
        optimizer = self._optimizer(named, recipe, len(images), generator)
        at_once = max(1, CHUNK_ENTRIES // sum(p.numel() for p in named.values()))
        loss = local_training.make_loss(recipe, model)
        total, count = 0.0, 0
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            for batch, rate in zip(batches, recipe.rates(len(batches)), strict=True):
                for group in optimizer.param_groups:
                    group["lr"] = rate
                parts = batch.split(at_once)  # an empty batch is one empty part
                for part in parts:
                    gradients, losses = example_gradients(
                        model, loss, images[part].to(device), labels[part].to(device)
                    )
                    for name, parameter in named.items():
                        parameter.grad_sample = gradients[name]  # type: ignore[attr-defined]
                    total, count = total + float(losses.sum()), count + len(part)
                    optimizer.signal_skip_step(do_skip=part is not parts[-1])
                    optimizer.step()
                    optimizer.zero_grad()
        return total / count if count else math.nan

    def _optimizer(
        self,
        named: dict[str, nn.Parameter],
        recipe: TrainingRecipe,
        examples: int,
        generator: torch.Generator,
    ) -> DPOptimizer:
        """Return SGD that clips the gradient of each image and adds noise to their sum."""
        from opacus.optimizers import DPOptimizer  # slow to import

        seed = int(torch.randint(2**62, (), generator=generator))
        device = next(iter(named.values())).device
        optimizer = DPOptimizer(
            torch.optim.SGD(
                named.values(),
                lr=recipe.lr,
                momentum=recipe.momentum,
                weight_decay=recipe.weight_decay,
            ),
            noise_multiplier=self.noise(recipe, examples),
            max_grad_norm=self.clip,
            expected_batch_size=recipe.batch_size,
            generator=torch.Generator(device).manual_seed(seed),
        )
        sent = {n: p.detach().clone() for n, p in named.items()}

        def pull_back(_: DPOptimizer) -> None:  # it sees no image: needs neither clip nor noise
            for name, parameter in named.items():
                apart = parameter.detach() - sent[name]
                parameter.grad += recipe.proximal_mu * apart  # type: ignore[operator]

        if recipe.proximal_mu:
            optimizer.attach_step_hook(pull_back)
        return optimizer

    def channel(self, observation: Observation) -> Channel:
        """Return the clipping of each image, and the noise that all steps together leave.

        In an aggregate each member's noise counts by its share of the images.
        """
        recipe = observation.recipe
        examples = list(observation.members.values()) or [observation.num_examples]
        stds = [
            self.noise(recipe, n)
            * self.clip
            / recipe.batch_size
            * update_std(recipe, recipe.steps(n))
            for n in examples
        ]
        shares = [n / sum(examples) for n in examples]
        std = math.hypot(*(share * each for share, each in zip(shares, stds, strict=True)))
        return Channel(
            noise={n: std for n, v in observation.returned.items() if not is_buffer(n, v)},
            example_clip=self.clip,
        )

    def account(
        self, recipe: TrainingRecipe, *, num_examples: int, clients: int, rounds: int
    ) -> PrivacySpent | None:
        """Return the account of all steps of all rounds; None without noise."""
        return gaussian_account(
            noise_multiplier=self.noise(recipe, num_examples),
            sample_rate=sample_rate(recipe, num_examples),
            steps=rounds * recipe.steps(num_examples),
            delta=self._delta(num_examples),
            unit="example",
            against="everyone who sees updates or models, the server included",
        )

    def noise(self, recipe: TrainingRecipe, num_examples: int) -> float:
        """Return the noise multiplier of a client with that many images."""
        if not self.epsilon:
            return self.noise_multiplier
        return noise_for_budget(
            self.epsilon,
            delta=self._delta(num_examples),
            sample_rate=sample_rate(recipe, num_examples),
            steps=max(1, self.rounds) * recipe.steps(num_examples),
        )

    def _delta(self, num_examples: int) -> float:
        return self.delta or default_delta(num_examples)


def sample_rate(recipe: TrainingRecipe, num_examples: int) -> float:
    """Return with which probability an image takes part in a step."""
    return min(1.0, recipe.batch_size / num_examples)


def example_gradients(
    model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], images: Tensor, labels: Tensor
) -> tuple[StateDict, Tensor]:
    """Return the gradient of each image's loss, (b, ...) by parameter, and the losses, (b,).

    With ``torch.func`` and not opacus' hooks: those need training mode, which batch
    normalisation must not have, and fail on sums in place as DenseNet and EfficientNet have them.

    Parameters
    ----------
    model : nn.Module
        In the mode in which to differentiate; no layer may mix images.
    loss : callable
        From logits (1, C) and one label to a scalar.
    images, labels : Tensor
        (b, C, H, W) and (b,) or (b, L); b may be 0.
    """
    trained = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
    if not len(images):
        return {n: p.new_zeros(0, *p.shape) for n, p in trained.items()}, images.new_zeros(0)

    def of_one(parameters: StateDict, image: Tensor, label: Tensor) -> Tensor:
        return loss(functional_call(model, parameters, (image[None],)), label[None])

    return vmap(grad_and_value(of_one), in_dims=(None, 0, 0))(trained, images, labels)


def update_std(recipe: TrainingRecipe, steps: int) -> float:
    """Return the standard deviation of weights after ``steps`` of independent unit gradients.

    That of SGD on a flat loss: sqrt(steps) times the learning rate, but for momentum and weight
    decay, with which an early gradient goes on to act.
    """
    moved, velocity = torch.zeros(2, steps, dtype=torch.float64)  # by the step of the gradient
    for step, rate in enumerate(recipe.rates(steps)):
        velocity = recipe.momentum * velocity + recipe.weight_decay * moved
        velocity[step] += 1
        moved = moved - rate * velocity
    return float(moved.norm())
