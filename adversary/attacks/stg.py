"""See through Gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import scipy
import torch
from torch import Tensor
from torch.func import vmap

from adversary.attacks.gradient_matching import GradientMatching
from adversary.attacks.options import option
from adversary.common.types import Variables
from adversary.observation.batch_statistics import (
    LayerStatistics,
    batch_statistics,
    observed_statistics,
    statistics_distance,
)
from adversary.optim.distances import layer_distance
from adversary.optim.loop import Objective, Optimizer
from adversary.optim.optimizers import Adam, Langevin, warm_cosine
from adversary.priors.total_variation import total_variation
from adversary.problem.problem import Problem


@dataclass(frozen=True, kw_only=True, eq=False)
class STG(GradientMatching):
    """Layer-wise L2 distance with fidelity and group-consistency terms, by noisy Adam.

    Yin, Mallya, Vahdat, Alvarez, Kautz and Molchanov, "See through gradients: image batch
    recovery via GradInversion", CVPR 2021, eqs. 1 to 12. The restarts are its group: they are
    optimised together, each drawn to their mean, and the best by its own score is returned.
    Labels are those granted, else the classes with the lowest column minimum (eq. 8), which
    assumes that none repeats.

    The batch-normalisation term is there where the update carries statistics (see
    :func:`~adversary.observation.batch_statistics.observed_statistics`), and is absent otherwise.

    Departures. The gradient term is relative to sum_l ||g*_l||, so ``tv`` and ``norm``, of means
    over pixels, weigh against 1 where the paper's weigh against 0.001 times a norm. The consensus
    is the group's mean without the paper's registration, a pretrained flow network; instead,
    where labels repeat, images of one label are first put into the order that fits the first
    candidate best. The L2 term draws to grey, the paper's zero after normalisation. Images are
    kept in [0, 1]. The paper takes 20,000 iterations; on the papers' LeNet 1,000 of a single
    restart reach as much as 2,000 of eight, which are the default.

    Options of all attacks that match gradients:
    :class:`~adversary.attacks.gradient_matching.GradientMatching`.

    Parameters
    ----------
    iterations : int
        Adam steps; the learning rate rises over the first 50 and falls as a cosine.
    restarts : int
        Size of the group. Memory and time grow with it.
    lr : float
        Highest learning rate, > 0.
    noise : float
        Gaussian noise added to every pixel after a step, in learning rates, >= 0.
    tv, norm, batch_norm, group : float
        Weights of total variation, L2 norm, batch statistics and group consistency, >= 0.
    """

    name: ClassVar[str] = "stg"
    title: ClassVar[str] = "See through gradients (GradInversion)"
    reference: ClassVar[str] = "Yin et al., CVPR 2021"
    label_rule: ClassVar[str] = "column-minimum"

    iterations: int = option(2000, above=0)
    restarts: int = option(8, above=0)
    lr: float = option(0.1, above=0)
    noise: float = option(0.2, minimum=0)
    tv: float = option(1e-4, minimum=0)
    norm: float = option(1e-6, minimum=0)
    batch_norm: float = option(0.1, minimum=0)
    group: float = option(1e-2, minimum=0)

    def method(self, seed: int) -> Optimizer:
        """Return a fresh Adam with warm-up, cosine decay and noise."""
        schedule = warm_cosine(self.iterations)
        adam = Adam(lr=self.lr, schedule=schedule)
        return Langevin(adam, scale=self.noise * self.lr, schedule=schedule, seed=seed)

    def at_once(self, problem: Problem) -> int:
        """Return the size of the group, which cannot be split."""
        return self.restarts

    def objective(self, problem: Problem) -> Objective:
        """Return eq. 1: gradient matching, fidelity (eq. 9) and group consistency (eq. 11)."""
        targets = self.targets(problem)
        reading = self.read(problem)
        statistics = {
            name: LayerStatistics(*(s.to(problem.device, problem.dtype) for s in values))
            for name, values in observed_statistics(problem.observation, problem.model).items()
        }
        layers, wanted = list(statistics), list(statistics.values())
        repeated = len(targets.unique(dim=0)) < len(targets)

        def batch_norm_distance(images: Tensor) -> Tensor:
            return statistics_distance(batch_statistics(problem.model, images, layers), wanted)

        def score(variables: Variables) -> Tensor:
            images = variables["images"]
            found = reading.gradients(problem, variables, targets.expand(len(images), -1, -1))
            total = (
                layer_distance(found, problem.gradient)
                + self.tv * total_variation(images)
                + self.norm * root_mean_square(images - 0.5)
            )
            if layers:
                total = total + self.batch_norm * vmap(batch_norm_distance)(images)
            if len(images) > 1:
                meant = consensus(images.detach(), targets if repeated else None)
                total = total + self.group * root_mean_square(images - meant)
            return total

        return score

    def project(self, variables: Variables) -> None:
        """Clamp the images to [0, 1]."""
        variables["images"].clamp_(0, 1)


def root_mean_square(values: Tensor) -> Tensor:
    """Return the L2 norm per pixel of each candidate, (R,), of (R, B, C, H, W)."""
    flat = values.flatten(1)
    return torch.linalg.vector_norm(flat, dim=1) / flat.shape[1] ** 0.5


def consensus(images: Tensor, targets: Tensor | None = None) -> Tensor:
    """Return the group's mean image (Yin et al. 2021, eq. 12 without registration).

    Parameters
    ----------
    images : Tensor
        (R, B, C, H, W), R candidates.
    targets : Tensor, optional
        (B, outputs), where labels repeat: the gradient cannot tell in which place of the batch
        an image of a repeated label belongs, so each candidate's are first reordered to fit
        those of the first candidate, by linear assignment of squared distances.

    Returns
    -------
    Tensor
        (R, B, C, H, W), the consensus in each candidate's own order.
    """
    if targets is None:
        return images.nanmean(0, keepdim=True).expand_as(images)  # a lost candidate has no say
    _, label = targets.unique(dim=0, return_inverse=True)
    places = torch.stack([_align(images[0], candidate, label) for candidate in images])
    index = places[:, :, None, None, None].expand_as(images)
    mean = images.gather(1, index).nanmean(0, keepdim=True).expand_as(images)
    return torch.zeros_like(images).scatter(1, index, mean)


def _align(first: Tensor, other: Tensor, label: Tensor) -> Tensor:
    """Return which image of ``other`` fits each of ``first``, among those of its label, (B,)."""
    cost = torch.cdist(first.flatten(1), other.flatten(1)).square()
    cost = cost.masked_fill(label[:, None] != label, torch.inf)
    # A finite bound: the assignment has to be feasible even for candidates with NaN.
    finite = cost.nan_to_num(nan=1e12, posinf=1e12).cpu().numpy()
    return torch.as_tensor(scipy.optimize.linear_sum_assignment(finite)[1], device=first.device)
