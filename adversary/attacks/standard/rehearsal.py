"""Whether a member gains anything over the mean public X-ray where the truth is known.

An update that nothing explains says which of two estimates is nearer to it, not which is nearer to
the patients: descents end in minima whose pictures are worse than the mean. The server can try: it
lets public X-rays train as the client did, and attacks what that gives. Where far more of the
client's update stays unexplained it was not made as the server was told; the server then tries
updates that are off by as much.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import scipy
import torch
from torch import Tensor

from adversary.common.seeding import generator
from adversary.observation.mean_gradient import total_step_size
from adversary.problem.problem import Problem
from adversary.problem.update_models import assumed_batches, mini_batches, unrolled

CONTRADICTING = 20.0
"""Factor by which more of an update stays unexplained than of one that was made as it was told;
between updates of one recipe it differs by up to 8."""

LUCKY_SHARE = 1e-3
"""Share of what the mean X-ray leaves unexplained, below which a descent met with the right
minimum: that another did not contradicts nothing."""


@dataclass(frozen=True)
class Unexplained:
    """What is left of an update: mean squared residuals in units of the noise.

    Parameters
    ----------
    best, mean : float
        Of the best estimate, and of the mean public X-ray.
    """

    best: float
    mean: float

    def contradicted_by(self, client: float) -> bool:
        """Return whether a client's update, of which so much is left, was made otherwise."""
        return self.best > LUCKY_SHARE * self.mean and client > CONTRADICTING * self.best


@dataclass(frozen=True)
class Rehearsal:
    """An update of public X-rays, and these, (B, C, H, W)."""

    problem: Problem
    images: Tensor

    def gain(self, found: Tensor, mean: Tensor) -> float:
        """Return by how many dB images are nearer to those of the update than their mean is.

        Parameters
        ----------
        found : Tensor
            (B, C, H, W), each compared with the image that is assigned to it.
        mean : Tensor
            (1, C, H, W).
        """
        truth = self.images.flatten(1)
        errors = torch.cdist(found.clamp(0, 1).to(truth).flatten(1), truth).square()
        rows, columns = scipy.optimize.linear_sum_assignment(errors.cpu().numpy())
        own = errors[rows, columns].clamp_min(1e-12)
        blank = (truth - mean.to(truth).flatten(1))[columns].square().sum(1).clamp_min(1e-12)
        return float(10 * (blank / own).log10().mean())


def rehearsal(
    problem: Problem, labels: Tensor, seed: int, off: Mapping[str, Tensor] | None = None
) -> Rehearsal | None:
    """Return what the server would have received of public X-rays; None where there are too few.

    They are drawn anew, as is their order in each epoch, and have the labels given in some order;
    the noise of the channel and of rounding is drawn as well.

    Parameters
    ----------
    problem : Problem
        The update of one client that is attacked.
    labels : Tensor
        That its images are taken to have, (B,) or (B, C).
    seed : int
        Of what is drawn.
    off : mapping of str to Tensor, optional
        By parameter, what is added to the mean gradients: :func:`residual_gradient`.
    """
    public, count = problem.prior, len(labels)
    if public is None or len(public.images) < count:
        return None
    draws = generator(seed, "rehearsal")
    chosen = torch.randperm(len(public.images), generator=draws)[:count]
    images = public.images[chosen].to(problem.device, problem.dtype)
    targets = problem.targets(labels[torch.randperm(count, generator=draws)])
    seen = problem.observation
    batches = mini_batches(seen.recipe, seen.images, seen.steps, draws)
    with torch.no_grad():
        told = unrolled(problem, problem.parameters, images, targets, batches)
    for name, value in told.items():
        noise = torch.randn(value.shape, generator=draws, dtype=value.dtype)
        told[name] = value + problem.noise(name) * noise.to(value.device)
    told |= {name: told[name] + value for name, value in (off or {}).items()}
    return Rehearsal(_received(problem, told), images)


@torch.no_grad()
def residual_gradient(problem: Problem, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return what images, (B, C, H, W), with labels leave of the mean gradients, by parameter."""
    batches = assumed_batches(problem.observation)
    told = unrolled(problem, problem.parameters, images, problem.targets(labels), batches)
    return {name: value - told[name] for name, value in problem.gradient.items()}


def _received(problem: Problem, told: dict[str, Tensor]) -> Problem:
    """Return the problem of an update that tells these mean gradients."""
    seen = problem.observation
    decay = seen.recipe.weight_decay if seen.recipe.optimizer == "sgd" else 0.0
    scale = total_step_size(seen)
    returned = dict(seen.returned)
    for name, value in told.items():
        sent = seen.sent[name].to(value)
        returned[name] = (sent - scale * (value + decay * sent)).to(seen.returned[name])
    return dataclasses.replace(
        problem,
        observation=dataclasses.replace(seen, returned=returned),
        gradient={name: told[name] for name in problem.gradient},
    )
