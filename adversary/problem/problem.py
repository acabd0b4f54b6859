"""The inverse problem that every attack solves: which images have this gradient."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, replace_all_batch_norm_modules_, vmap
from torch.nn import functional

from adversary.common.types import StateDict
from adversary.observation import adam_step
from adversary.observation.batch_statistics import frozen_layers
from adversary.observation.channel import apply_clipping
from adversary.observation.mean_gradient import mean_gradient, rounding_noise, total_step_size
from adversary.observation.observation import Observation, ObservationError
from adversary.observation.recipe import Loss
from adversary.observation.threat_model import ThreatModel
from adversary.priors.gaussian import GaussianPrior
from adversary.priors.public import Prior
from adversary.priors.smooth import smooth_prior
from adversary.problem import losses
from adversary.problem.head import Head, head_name

FLOAT32_GRADIENT_ERROR = 3e-7
"""Error of float32 arithmetic in a gradient, relative to the largest entry of its array."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """An observation made ready for attack: the model, the target gradient, what is known.

    Parameters
    ----------
    model : nn.Module
        A copy that holds the weights that were sent; dropout off, batch normalisation as the
        recipe says.
    observation : Observation
        What the server saw.
    threat : ThreatModel
        What the attacker was granted beyond it.
    gradient : dict of str to Tensor
        g*, the gradient of the mean loss that the observation tells, by parameter.
    shape : tuple of int
        (B, C, H, W) of the images sought.
    prior : Prior, optional
        Public X-rays.
    hidden : frozenset of str
        Parameters that the client trains and of which nothing is observed.
    beyond : dict of str to Tensor
        By parameter: 1 where the gradient may be larger than the entry of ``gradient``, -1 where
        it may be smaller, 0 where it is that. Empty where all entries are told.
    """

    model: nn.Module
    observation: Observation
    threat: ThreatModel
    gradient: StateDict
    shape: tuple[int, int, int, int]
    prior: Prior | None = None
    hidden: frozenset[str] = frozenset()
    beyond: StateDict = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Whose update it is, for messages."""
        return self.observation.name

    @property
    def loss(self) -> Loss:
        """What the client minimised."""
        return self.observation.recipe.loss

    @property
    def device(self) -> torch.device:
        """Where the attack computes."""
        return next(iter(self.gradient.values())).device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the attack."""
        return next(iter(self.gradient.values())).dtype

    @cached_property
    def head(self) -> Head:
        """The last linear layer, whose gradient tells labels and encodings."""
        unknown = Head(loss=self.loss, class_weights=self.class_weights)
        try:
            name = head_name(self.model)
        except ObservationError:
            return unknown
        layer = cast(nn.Linear, self.model.get_submodule(name))
        return dataclasses.replace(
            unknown,
            weight=layer.weight,
            bias=layer.bias,
            weight_gradient=self.gradient.get(f"{name}.weight"),
            bias_gradient=self.gradient.get(f"{name}.bias"),
            name=name,
        )

    @property
    def outputs(self) -> int:
        """C, the number of outputs."""
        if self.head.weight is not None:
            return len(self.head.weight)
        # no linear layer: what the model puts out
        blank = torch.zeros(2, *self.shape[1:], device=self.device, dtype=self.dtype)
        with torch.no_grad():
            return self.model(blank).shape[1]

    def encode(self, images: Tensor) -> Tensor:
        """Return the encodings, the inputs of the last linear layer, of images, (N, C, H, W)."""
        encoder = getattr(self.model, "encode", None)
        if encoder is not None:
            return encoder(images)
        seen: list[Tensor] = []
        layer = self.model.get_submodule(head_name(self.model))
        hook = layer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        try:
            self.model(images)
        finally:
            hook.remove()
        return seen[0]

    def targets(self, labels: Tensor) -> Tensor:
        """Return labels, (B,) indices or (B, C) multi-hot, as (B, C) targets of the loss."""
        if labels.ndim == 1:
            labels = (
                functional.one_hot(labels.long(), self.outputs)
                if self.loss == "cross-entropy"
                else labels[:, None]
            )
        return labels.to(self.device, self.dtype)

    @property
    def class_weights(self) -> Tensor | None:
        """The recipe's weights of the classes, (C,); None without."""
        weights = self.observation.recipe.class_weights
        return torch.tensor(weights, device=self.device, dtype=self.dtype) if weights else None

    @property
    def told(self) -> float:
        """Share of the observed gradient's entries that are told in full, in [0, 1]."""
        entries = sum(g.numel() for g in self.gradient.values())
        return 1 - sum(int(b.count_nonzero()) for b in self.beyond.values()) / entries

    def mean_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the client's loss, averaged over the batch (and the outputs for ``bce``)."""
        return losses.mean_loss(logits, targets, self.loss, self.class_weights)

    def sigma(self, parameter: str) -> float:
        """Return the standard deviation of an entry of the observed gradient of one parameter.

        The noise of the channel, the rounding of what was sent, and that of the client's own
        float32 sums on the way to it.
        """
        size = float(self.gradient[parameter].abs().max())
        return max(math.hypot(self.noise(parameter), FLOAT32_GRADIENT_ERROR * size), 1e-30)

    def noise(self, parameter: str) -> float:
        """Return the part of :meth:`sigma` that came on the way: the channel's and rounding."""
        noise = _noise(self.observation, self.threat, parameter)
        if parameter in self.beyond:  # at its largest entry
            decay = self.observation.recipe.weight_decay
            pull = self.gradient[parameter] + decay * self.parameters[parameter]
            noise *= adam_step.error_amplification(float(pull.abs().max()))
        return noise

    @property
    def parameters(self) -> StateDict:
        """The weights that were sent, of those parameters that the client trains."""
        return {n: p.detach() for n, p in self.model.named_parameters() if n in self._trained}

    @property
    def _trained(self) -> set[str]:
        return self.gradient.keys() | self.hidden

    def expected(self, parameters: StateDict, images: Tensor, targets: Tensor) -> StateDict:
        """Return the gradient that the server would observe of a batch, but for the noise.

        A pure function, for ``torch.func``: the mean over images of gradients clipped as the
        channel says, clipped as a whole, without the entries that tell nothing.

        Parameters
        ----------
        parameters : dict of str to Tensor
            Weights at which to take the gradient, :attr:`parameters` or others.
        images : Tensor
            (B, C, H, W).
        targets : Tensor
            (B, outputs).
        """
        return self.through_channel(self.step_gradient(parameters, images, targets))

    def step_gradient(self, parameters: StateDict, images: Tensor, targets: Tensor) -> StateDict:
        """Return the gradient with which a client makes one step; arguments as :meth:`expected`."""
        bound = self.threat.channel.example_clip
        if math.isinf(bound):
            return grad(self._loss)(parameters, images, targets)

        if len(images) == 1:  # without batching rules
            return apply_clipping(grad(self._loss)(parameters, images, targets), bound)

        def of_one(image: Tensor, target: Tensor) -> StateDict:
            return apply_clipping(grad(self._loss)(parameters, image[None], target[None]), bound)

        return {n: g.mean(0) for n, g in vmap(of_one)(images, targets).items()}

    def through_channel(self, gradient: StateDict) -> StateDict:
        """Return what the channel makes of the mean gradient of a whole update."""
        channel = self.threat.channel
        if not math.isinf(channel.clip):
            gradient = apply_clipping(gradient, channel.clip / total_step_size(self.observation))
        kept = channel.keep({n: g for n, g in gradient.items() if n in self.gradient})
        return {n: self._as_told(n, g) for n, g in kept.items()} if self.beyond else kept

    def _as_told(self, name: str, gradient: Tensor) -> Tensor:
        """Return a gradient whose censored entries have the observed values."""
        told, beyond = self.gradient[name], self.beyond[name]
        highest = torch.where(beyond > 0, told, torch.inf)
        return gradient.clamp(torch.where(beyond < 0, told, -torch.inf), highest)

    def gradients(
        self, images: Tensor, targets: Tensor, parameters: StateDict | None = None
    ) -> StateDict:
        """Return :meth:`expected` of several candidate batches, differentiable in all arguments.

        Parameters
        ----------
        images : Tensor
            (R, B, C, H, W), R candidates at once.
        targets : Tensor
            (R, B, outputs).
        parameters : dict of str to Tensor, optional
            (R, ...), weights of each candidate; by default those that were sent.

        Returns
        -------
        dict of str to Tensor
            (R, ...) by parameter.
        """
        if len(images) == 1 and math.isinf(self.threat.channel.example_clip):
            # Without the batching rules: half the time on a CPU.
            given = None if parameters is None else {n: p[0] for n, p in parameters.items()}
            seen = self.through_channel(self._of_one(images[0], targets[0], given))
            return {n: g[None] for n, g in seen.items()}
        if parameters is None:
            return vmap(self.expected, in_dims=(None, 0, 0))(self.parameters, images, targets)
        return vmap(self.expected)(parameters, images, targets)

    def _of_one(self, images: Tensor, targets: Tensor, given: StateDict | None) -> StateDict:
        """Return :meth:`step_gradient` of one batch, at weights given or the model's own."""
        if given is None:
            weights: dict[str, Tensor] = {
                n: p for n, p in self.model.named_parameters() if n in self._trained
            }
            with _requires_grad(weights.values()):
                value = self.mean_loss(self.model(images), targets)
                found = torch.autograd.grad(value, list(weights.values()), create_graph=True)
        else:
            weights = {n: w if w.requires_grad else w.requires_grad_() for n, w in given.items()}
            value = self._loss(weights, images, targets)
            found = torch.autograd.grad(value, list(weights.values()), create_graph=True)
        return dict(zip(weights, found, strict=True))

    def _loss(self, parameters: StateDict, images: Tensor, targets: Tensor) -> Tensor:
        return self.mean_loss(functional_call(self.model, parameters, (images,)), targets)

    def to(self, dtype: torch.dtype) -> Problem:
        """Return the problem in another precision."""
        if dtype == self.dtype:
            return self
        return dataclasses.replace(
            self,
            model=copy.deepcopy(self.model).to(dtype),
            gradient={n: g.to(dtype) for n, g in self.gradient.items()},
            beyond={n: b.to(dtype) for n, b in self.beyond.items()},
        )


@contextmanager
def _requires_grad(weights: Collection[Tensor]) -> Iterator[None]:
    """Let a graph be built on weights that otherwise have none, hence cost none elsewhere."""
    for weight in weights:
        weight.requires_grad_(True)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(False)


def _noise(observation: Observation, threat: ThreatModel, parameter: str) -> float:
    """Return the noise of the way on an entry of what :func:`mean_gradient` returns."""
    added = threat.channel.noise.get(parameter, 0.0) / total_step_size(observation)
    return math.hypot(added, rounding_noise(observation, parameter))


def _load(model: nn.Module, observation: Observation) -> None:
    """Load what was sent into ``model``; it may be a part."""
    try:
        found = model.load_state_dict(observation.sent, strict=False)
        reason = (
            f"it has no {', '.join(found.unexpected_keys[:3])}" if found.unexpected_keys else ""
        )
    except RuntimeError as error:
        reason = " ".join(str(error).split())
    if reason:
        raise ObservationError(f"{observation.name}: the update is of another model ({reason})")


def build_problem(
    observation: Observation,
    threat: ThreatModel,
    model: nn.Module,
    *,
    image_shape: tuple[int, int, int],
    prior: Prior | None = None,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Problem:
    """Turn an observation into a :class:`Problem`; ``model`` is copied, never changed.

    Arrays that were not sent are as in ``model``: the server made it, and freezes what it does
    not send.

    Raises
    ------
    ObservationError
        If the update does not fit the model or cannot be used.
    """
    observation.check()
    device = device or torch.device("cpu")
    model = copy.deepcopy(model)
    frozen = [n for n in frozen_layers(model) if f"{n}.weight" not in observation.sent]
    _load(model, observation)
    model.eval()  # dropout is noise that the attacker cannot know
    if observation.recipe.batch_norm == "train":
        for name, module in model.named_modules():
            if name not in frozen and not list(module.children()):
                replace_all_batch_norm_modules_(module)  # batch statistics, no buffers to write
    told = mean_gradient(observation, [n for n, _ in model.named_parameters()])
    told, beyond = _read_adam(observation, threat, told)
    observed = threat.channel.observed
    hidden = frozenset(n for n in told if n in observed and not bool(observed[n].any()))
    if len(hidden) == len(told):
        raise ObservationError(f"{observation.name}: nothing of the update is observed")
    gradient = threat.channel.keep({n: g for n, g in told.items() if n not in hidden})
    return Problem(
        model=model.to(device, dtype).requires_grad_(False),
        observation=observation,
        threat=threat,
        gradient={n: g.detach().to(device, dtype) for n, g in gradient.items()},
        shape=(observation.images, *image_shape),
        prior=prior,
        hidden=hidden,
        beyond={n: b.to(device, dtype) for n, b in beyond.items() if n in gradient},
    )


def _read_adam(
    observation: Observation, threat: ThreatModel, told: StateDict
) -> tuple[StateDict, StateDict]:
    """Return the gradient behind one step of Adam with its saturated entries; else ``told``.

    Raises
    ------
    ObservationError
        Where steps of Adam were mixed or scaled, so that they cannot be taken back.
    """
    recipe = observation.recipe
    if recipe.optimizer != "adam" or recipe.update == "gradient":
        return told, {}
    if observation.view == "aggregate":
        raise ObservationError(
            f"{observation.name}: the clients' optimiser is Adam, and a mean of its steps is no "
            "gradient; only single updates can be read"
        )
    if not math.isinf(threat.channel.clip):
        raise ObservationError(
            f"{observation.name}: the clients' optimiser is Adam, and its clipped steps cannot be "
            "taken back to gradients"
        )
    if observation.steps > 1:
        return told, {}
    errors = {name: _noise(observation, threat, name) for name in told}
    pulls, beyond = adam_step.gradient_from_adam_step(told, errors)
    decay = recipe.weight_decay
    return {n: p - decay * observation.sent[n].double() for n, p in pulls.items()}, beyond


def image_prior(problem: Problem, *, public: bool = True) -> GaussianPrior:
    """Return that of the public X-rays, if wanted and there are any, else of smooth images."""
    wanted = problem.prior if public else None
    found = smooth_prior(problem.shape[1:]) if wanted is None else wanted.gaussian
    return found.to(problem.device, problem.dtype)
