"""EncGradInversion: encodings first, then images from encodings, then the whole gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from adversary.attacks.base import AttackError, Run
from adversary.attacks.encgrad.encodings import (
    Encodings,
    consistent_encodings,
    gra,
    oha,
    refine_encodings,
)
from adversary.attacks.encgrad.map_inversion import map_images
from adversary.attacks.gradient_matching import GradientMatching
from adversary.attacks.initial_images import INITIAL_IMAGES
from adversary.attacks.options import option
from adversary.common.device_memory import CPU_BYTES
from adversary.common.results import Frame, Solution
from adversary.common.seeding import generator
from adversary.common.types import RANK_CUTOFF, Variables
from adversary.labels import recovery
from adversary.optim.distances import squared_distance
from adversary.optim.loop import Objective, Recording, minimise
from adversary.optim.optimizers import LBFGS, Adam, Projected, one_cycle
from adversary.optim.search import Search
from adversary.priors.total_variation import total_variation
from adversary.problem.head import Head
from adversary.problem.problem import Problem


def _oha(problem: Problem, targets: Tensor, seed: int) -> Encodings:
    found = _single_labels(problem, "oha")
    return _linear(problem, targets, oha(*_head(problem).gradient, found))


def _gra(problem: Problem, targets: Tensor, seed: int) -> Encodings:
    found = _single_labels(problem, "gra")
    return _linear(problem, targets, gra(*_head(problem).gradient, found))


def _consistent(problem: Problem, targets: Tensor, seed: int) -> Encodings:
    head = _head(problem)
    noise = problem.noise(head.weight_name)
    found = consistent_encodings(head, targets, noise=noise)
    if found.rank < len(targets):
        found = refine_encodings(head, targets, found, noise=noise, seed=seed)
    return found


ENCODINGS: dict[str, Callable[[Problem, Tensor, int], Encodings]] = {
    "oha": _oha,
    "gra": _gra,
    "consistent": _consistent,
}
"""Phase 1, by name."""


INVERSIONS = ("map", "adam")
"""Phase 2, by name."""

MAX_TV_RATIO = 1.5
"""Ratio of total variations from which phase 3 is seen to have fitted noise."""

LARGEST_ENCODING = 4096
"""Entries up to which the closed form is tried: its cube counts the operations."""

MAX_ENCODING_SIGMAS = 10.0
"""Misfit of an encoding, in standard deviations, up to which its image is taken as found."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EncGradInversion(GradientMatching):
    """Three phases: encodings h_i, images with these encodings, images with the whole gradient.

    Dao and Lee, "EncGradInversion", IEEE Internet of Things Journal 2025. Their phase 2 minimises
    ||f_enc(x_i) - h_i|| / ||h_i||^2 + tv TV(x_i) + sixth mean(x_i^6) by Adam, image by image;
    their phase 3 adds the distance of the gradients.

    Departures. Phase 1 makes encodings and outputs consistent by default (see
    :mod:`adversary.attacks.encgrad.encodings`). Phase 2 takes the most probable images under a
    Gaussian prior in closed form by default (see :mod:`adversary.priors.smooth`), and Adam, for all
    images in one batch, with a one-cycle learning rate and clamped images, only where that does not
    explain the encodings: encoders far from linear, batch statistics, encodings too large for a
    Jacobian. Phase 3 runs L-BFGS in float64 on ||g - g*||^2 relative to its value after phase 2,
    which includes the encodings by way of the last layer's gradient, plus the prior terms; its
    result is taken only if it is nearer to the observed gradient and not much rougher than phase
    2's.

    Options of all attacks that match gradients:
    :class:`~adversary.attacks.gradient_matching.GradientMatching`; ``start`` is
    grey by default.

    Parameters
    ----------
    encodings : {"consistent", "gra", "oha"}
        Phase 1.
    inversion : {"map", "adam"}
        Phase 2: the closed form with Adam to fall back on, or Adam at once.
    iterations : int
        Adam steps of phase 2; 0 leaves Adam out.
    lr : float
        Highest learning rate of Adam, > 0.
    tv, sixth : float
        Weights of the total variation and of the sixth-power norm, for Adam and phase 3, >= 0.
    refine : int
        L-BFGS steps of phase 3; 0 leaves it out.
    """

    name: ClassVar[str] = "encgrad"
    title: ClassVar[str] = "EncGradInversion"
    reference: ClassVar[str] = "Dao and Lee, IEEE Internet of Things Journal 2025"

    no_result: ClassVar[str] = "the images are not finite"

    encodings: str = option("consistent", choices=lambda: ENCODINGS)
    inversion: str = option("map", choices=lambda: INVERSIONS)
    iterations: int = option(800, minimum=0)
    lr: float = option(0.05, above=0)
    tv: float = option(1e-5, minimum=0)
    sixth: float = option(0.0, minimum=0)
    refine: int = option(200, minimum=0)
    start: str = option("grey", choices=lambda: [*INITIAL_IMAGES, "image"])

    def method(self, seed: int) -> Adam:
        """Return the optimiser of phase 2."""
        return Adam(lr=self.lr, schedule=one_cycle(self.iterations))

    def objective(self, problem: Problem) -> Objective:
        """Return ||g - g*||^2 / ||g*||^2, the gradient term of phase 3."""
        targets = self.targets(problem)
        reading = self.read(problem)

        def distance(variables: Variables) -> Tensor:
            images = variables["images"]
            read = reading.variables(problem, len(images)) | variables
            found = reading.gradients(problem, read, targets.expand(len(images), -1, -1))
            return squared_distance(found, problem.gradient)

        return distance

    def project(self, variables: Variables) -> None:
        """Clamp the images to [0, 1]."""
        variables["images"].clamp_(0, 1)

    def prior(self, images: Tensor) -> Tensor:
        """Return tv TV(x) + sixth mean(x^6) of (R, B, C, H, W) candidates, (R,)."""
        sixth = images.pow(6).mean((-4, -3, -2, -1)) if self.sixth else 0.0
        return self.tv * total_variation(images) + self.sixth * sixth

    def prepare(self, problem: Problem) -> Problem:
        """Return the problem as it is: the phases differ in their arithmetic."""
        return problem

    def solve(self, run: Run) -> Solution:
        """Return the images of phase 2, or of phase 3 where that comes nearer to the gradient."""
        problem, search = run.problem, run.search
        labels = recovery.recover(problem)
        targets = problem.targets(labels)
        encodings = ENCODINGS[self.encodings](problem, targets, run.seed)
        notes = [f"the update determines {encodings.rank} of {len(targets)} image encodings"]
        images, note = self._images_from(encodings, targets, run)
        notes.append(note)
        score = self._gradient_distance(problem, images)
        self._film(search, score, images)
        if self.refine and not search.exhausted():
            refined = self._refine(run, images, score)
            refined_score = self._gradient_distance(problem, refined)
            search.evaluations += 1
            if refined_score < score and _total_variation_ratio(
                refined
            ) < MAX_TV_RATIO * _total_variation_ratio(images):
                images, score = refined, refined_score
                self._film(search, score, images)
                notes.append("phase 3 came nearer to the gradient than phase 2 and was taken")
            else:
                notes.append("phase 3 did not improve on phase 2 and was left out")
        return Solution(images=images, labels=labels, score=score, notes=tuple(notes))

    def usable(self, solution: Solution) -> bool:
        """Return whether all pixels are finite, however far the images are from the gradient."""
        return bool(torch.isfinite(solution.images).all())

    def _film(self, search: Search, score: float, images: Tensor) -> None:
        """Keep a picture of what a phase came to, if pictures are kept."""
        if self.frames:
            shown = images.clamp(0, 1).float().cpu()
            search.frames.append(Frame(0, search.evaluations, score, shown))

    def _images_from(self, encodings: Encodings, targets: Tensor, run: Run) -> tuple[Tensor, str]:
        """Phase 2: images (B, C, H, W) with the given encodings, and how they were found."""
        problem, search, batch = run.problem, run.search, len(targets)
        starts = torch.stack([self._start(problem, run.seed + r, r) for r in range(self.restarts)])
        note = "phase 2 by Adam"
        if self.inversion == "map" and _has_jacobian(problem, encodings.values.shape[1]):
            precise = problem.to(torch.float64)
            images, misfit = map_images(
                precise.encode,
                encodings.values,
                deviation(problem, encodings, targets),
                starts[0].mean(0).to(precise.dtype),
            )
            search.evaluations += batch
            starts[0] = images.clamp(0, 1)
            if bool((misfit < MAX_ENCODING_SIGMAS).all()):
                return starts[0], "phase 2 in closed form explains the encodings"
            note = "phase 2 by Adam, as the closed form does not explain the encodings"
        if not self.iterations:
            return starts[0], "phase 2 left out"
        if "grey" in self.starts and batch > 1:  # equal encodings must not mean equal images
            draw = torch.randn(starts.shape, generator=generator(run.seed, "nudge"))
            starts = starts + 0.01 * draw.to(starts)
        values = encodings.values.to(problem.dtype).repeat(self.restarts, 1)
        best, scores = minimise(
            lambda v: self._misfit(problem, v["images"], values) + self.prior(v["images"]),
            {"images": starts.flatten(0, 1)[:, None]},  # every image is a candidate of its own
            Projected(self.method(run.seed), self.project),
            iterations=self.iterations,
            search=search,
        )
        scores = scores.view(self.restarts, batch)
        images = best["images"].view(self.restarts, *problem.shape)
        return images[scores.argmin(0), torch.arange(batch)], note

    @staticmethod
    def _misfit(problem: Problem, images: Tensor, encodings: Tensor) -> Tensor:
        """Return ||f_enc(x) - h|| / ||h||^2, (R,), of R single-image candidates."""
        difference = problem.encode(images.flatten(0, 1)) - encodings
        return difference.norm(dim=1) / encodings.square().sum(1)

    def _refine(self, run: Run, images: Tensor, score: float) -> Tensor:
        """Phase 3: the whole gradient, from the images of phase 2 and in units of their score."""
        precise = run.problem.to(torch.float64)
        distance = self.objective(precise)
        unit = max(score, torch.finfo(torch.float64).tiny)
        best, _ = minimise(
            lambda v: distance(v) / unit + self.prior(v["images"]),
            {"images": images.to(precise.dtype)[None].clone()},
            LBFGS(),
            iterations=self.refine,
            search=run.search,
            recording=Recording(first_restart=len(images) * self.restarts),
        )
        return best["images"][0].clamp(0, 1).to(run.problem.dtype)

    def _gradient_distance(self, problem: Problem, images: Tensor) -> float:
        precise = problem.to(torch.float64)
        candidate = images.clamp(0, 1).to(precise.dtype)[None]
        return float(self.objective(precise)({"images": candidate}).detach())


def _total_variation_ratio(images: Tensor) -> float:
    return float(total_variation(images))


def _has_jacobian(problem: Problem, encoding: int) -> bool:
    """Return whether each image has its own encoding, with a Jacobian that is soon factorised."""
    coupled = any(
        isinstance(m, torch.nn.modules.batchnorm._BatchNorm) and m.running_mean is None
        for m in problem.model.modules()
    )
    pixels = torch.Size(problem.shape[1:]).numel()
    fits = 8 * encoding * (encoding + 2 * pixels) < CPU_BYTES
    return not coupled and fits and encoding <= LARGEST_ENCODING


def _head(problem: Problem) -> Head:
    """Return the last layer, with all of its gradient."""
    head = problem.head
    if problem.observation.recipe.optimizer == "adam":
        raise AttackError("encgrad: steps of Adam tell no gradient of the last layer")
    names = (head.weight_name, head.bias_name)
    if hidden := [n for n in names if n in problem.threat.channel.observed]:
        raise AttackError(f"encgrad: the defence hides entries of {hidden[0]}, so no encodings")
    if not head.complete:
        raise AttackError("encgrad: the last layer's gradient was not sent, so no encodings")
    return head


def _single_labels(problem: Problem, rule: str) -> Tensor:
    """Return class indices; refuse what the rule is not made for."""
    if problem.loss != "cross-entropy":
        raise AttackError(f"encgrad.encodings = '{rule}': needs one label an image; use consistent")
    if problem.class_weights is not None:
        raise AttackError(f"encgrad.encodings = '{rule}': knows no class weights; use consistent")
    return recovery.recover(problem)


def _linear(problem: Problem, targets: Tensor, H: Tensor) -> Encodings:
    """Return what OHA or GRA found in the form of the consistent method."""
    head = _head(problem).double()
    (G_W, _), (W, b) = head.gradient, head.layer
    outputs = head.outputs(H @ W.T + b)
    seen = len(targets) * G_W
    misfit = (outputs - targets.double()).T @ H - seen
    return Encodings(
        values=H,
        outputs=outputs,
        rank=len(targets.unique(dim=0)),
        rounds=1,
        residual=float(misfit.norm() / seen.norm()),
    )


def deviation(problem: Problem, encodings: Encodings, targets: Tensor) -> Tensor:
    """Return the standard deviation of an entry of each encoding, (B,), as the attacker sees it.

    The noise of s G_W, by the larger of what is known of it and what encodings and outputs leave
    unexplained, through the solution of A H = s G_W; and the victim's own rounding of H.
    """
    head = _head(problem)
    G_W, _ = head.gradient
    unexplained = encodings.residual * float(G_W.double().square().mean().sqrt())
    noise = head.terms(*targets.shape) * max(problem.noise(head.weight_name), unexplained)
    A = head.errors(encodings.outputs, targets.double()).T
    solution = torch.linalg.pinv(A, rtol=RANK_CUTOFF)
    eps = torch.finfo(problem.observation.returned[head.weight_name].dtype).eps
    own = eps * encodings.values.square().mean(1).sqrt()
    return torch.hypot(noise * solution.norm(dim=1), own)
