"""EncGradInversion: encodings first, then images from encodings, then the whole gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from adversary.attacks.base import (
    AttackError,
    require_non_negative,
    require_one_of,
    require_positive,
    update_notes,
)
from adversary.attacks.encgrad.encodings import (
    Encodings,
    consistent_encodings,
    gra,
    oha,
    refine_encodings,
)
from adversary.attacks.encgrad.map_inversion import map_images
from adversary.attacks.gradient_matching import GradientMatching
from adversary.common.device_memory import CPU_BYTES
from adversary.common.results import Frame, Reconstruction
from adversary.common.seeding import generator
from adversary.common.types import RANK_CUTOFF, Variables
from adversary.labels import recovery
from adversary.optim.distances import squared_distance
from adversary.optim.loop import Objective, minimise
from adversary.optim.optimizers import LBFGS, Adam, one_cycle
from adversary.optim.search import Limits, Progress, Search
from adversary.priors.total_variation import total_variation
from adversary.problem.losses import output_gradients
from adversary.problem.problem import Problem, head_name


def _oha(problem: Problem, targets: Tensor, seed: int) -> Encodings:
    G_W, G_b, found = _single_labels(problem, "oha")
    return _linear(problem, targets, oha(G_W, G_b, found))


def _gra(problem: Problem, targets: Tensor, seed: int) -> Encodings:
    G_W, G_b, found = _single_labels(problem, "gra")
    return _linear(problem, targets, gra(G_W, G_b, found))


def _consistent(problem: Problem, targets: Tensor, seed: int) -> Encodings:
    G_W, G_b = _head_gradient(problem)
    noise = problem.noise(f"{head_name(problem.model)}.weight")
    head = problem.head
    system = (G_W, G_b, head.weight, head.bias, targets)
    common: dict[str, Any] = {
        "loss": problem.loss,
        "noise": noise,
        "class_weights": problem.class_weights,
    }
    found = consistent_encodings(*system, **common)
    if found.rank < len(targets):
        found = refine_encodings(*system, found, **common, seed=seed)
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
    **shared
        See :class:`~adversary.attacks.gradient_matching.GradientMatching`; ``start`` is grey by
        default.
    """

    name: ClassVar[str] = "encgrad"
    title: ClassVar[str] = "EncGradInversion"
    reference: ClassVar[str] = "Dao and Lee, IEEE Internet of Things Journal 2025"

    def __init__(
        self,
        *,
        encodings: str = "consistent",
        inversion: str = "map",
        iterations: int = 800,
        lr: float = 0.05,
        tv: float = 1e-5,
        sixth: float = 0.0,
        refine: int = 200,
        start: str = "grey",
        **shared: Any,
    ) -> None:
        super().__init__(iterations=max(iterations, 1), start=start, **shared)
        require_positive(self, lr=lr)
        require_non_negative(self, iterations=iterations, tv=tv, sixth=sixth, refine=refine)
        require_one_of(self, "encodings", encodings, ENCODINGS)
        require_one_of(self, "inversion", inversion, INVERSIONS)
        self.encodings = encodings
        self.inversion = inversion
        self.iterations = iterations
        self.lr = lr
        self.tv = tv
        self.sixth = sixth
        self.refine = refine

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

    def run(
        self,
        problem: Problem,
        *,
        seed: int = 0,
        limits: Limits = Limits(),  # noqa: B008 (frozen)
        progress: Progress | None = None,
    ) -> Reconstruction:
        """See :meth:`adversary.attacks.base.Attack.run`."""
        search = self.search(seed, limits, progress)
        found_labels = recovery.recover(problem)
        targets = problem.targets(found_labels)
        encodings = ENCODINGS[self.encodings](problem, targets, seed)
        batch = len(targets)
        notes = [
            f"the update determines {encodings.rank} of {batch} image encodings",
            *update_notes(problem, self.read(problem)),
        ]

        images, note = self._images_from(encodings, targets, problem, search, seed)
        notes.append(note)
        score = self._gradient_distance(problem, images)
        self._film(search, score, images)
        if self.refine and not search.exhausted():
            refined = self._refine(problem, images, score, search)
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
        if not torch.isfinite(images).all():
            raise AttackError("encgrad: the images are not finite")
        return Reconstruction(
            images=images.clamp(0, 1).float().cpu(),
            labels=found_labels.cpu(),
            score=score,
            seconds=search.seconds,
            evaluations=search.evaluations,
            stopped=search.stopped,
            history=search.history,
            frames=search.frames,
            notes=(*notes, *search.notes),
        )

    def _film(self, search: Search, score: float, images: Tensor) -> None:
        """Keep a picture of what a phase came to, if pictures are kept."""
        if self.frames:
            shown = images.clamp(0, 1).float().cpu()
            search.frames.append(Frame(0, search.evaluations, score, shown))

    def _images_from(
        self, encodings: Encodings, targets: Tensor, problem: Problem, search: Search, seed: int
    ) -> tuple[Tensor, str]:
        """Phase 2: images (B, C, H, W) with the given encodings, and how they were found."""
        batch = problem.shape[0]
        starts = torch.stack([self._start(problem, seed + r) for r in range(self.restarts)])
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
        if self.start == "grey" and batch > 1:  # equal encodings must not mean equal images
            draw = torch.randn(starts.shape, generator=generator(seed, "nudge"))
            starts = starts + 0.01 * draw.to(starts)
        values = encodings.values.to(problem.dtype).repeat(self.restarts, 1)
        best, scores = minimise(
            lambda v: self._misfit(problem, v["images"], values) + self.prior(v["images"]),
            {"images": starts.flatten(0, 1)[:, None]},  # every image is a candidate of its own
            self.method(seed),
            iterations=self.iterations,
            search=search,
            project=self.project,
        )
        scores = scores.view(self.restarts, batch)
        images = best["images"].view(self.restarts, *problem.shape)
        return images[scores.argmin(0), torch.arange(batch)], note

    @staticmethod
    def _misfit(problem: Problem, images: Tensor, encodings: Tensor) -> Tensor:
        """Return ||f_enc(x) - h|| / ||h||^2, (R,), of R single-image candidates."""
        difference = problem.encode(images.flatten(0, 1)) - encodings
        return difference.norm(dim=1) / encodings.square().sum(1)

    def _refine(self, problem: Problem, images: Tensor, score: float, search: Search) -> Tensor:
        """Phase 3: the whole gradient, from the images of phase 2 and in units of their score."""
        precise = problem.to(torch.float64)
        distance = self.objective(precise)
        unit = max(score, torch.finfo(torch.float64).tiny)
        best, _ = minimise(
            lambda v: distance(v) / unit + self.prior(v["images"]),
            {"images": images.to(precise.dtype)[None].clone()},
            LBFGS(),
            iterations=self.refine,
            search=search,
            first_restart=len(images) * self.restarts,
        )
        return best["images"][0].clamp(0, 1).to(problem.dtype)

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


def _head_gradient(problem: Problem) -> tuple[Tensor, Tensor]:
    G_W, G_b = problem.head_gradient
    head = head_name(problem.model)
    if problem.observation.recipe.optimizer == "adam":
        raise AttackError("encgrad: steps of Adam tell no gradient of the last layer")
    hidden = [n for n in (f"{head}.weight", f"{head}.bias") if n in problem.threat.channel.observed]
    if hidden:
        raise AttackError(f"encgrad: the defence hides entries of {hidden[0]}, so no encodings")
    if G_W is None or G_b is None:
        raise AttackError("encgrad: the last layer's gradient was not sent, so no encodings")
    return G_W, G_b


def _single_labels(problem: Problem, rule: str) -> tuple[Tensor, Tensor, Tensor]:
    if problem.loss != "cross-entropy":
        raise AttackError(f"encgrad.encodings = '{rule}': needs one label an image; use consistent")
    if problem.class_weights is not None:
        raise AttackError(f"encgrad.encodings = '{rule}': knows no class weights; use consistent")
    G_W, G_b = _head_gradient(problem)
    return G_W, G_b, recovery.recover(problem)


def _linear(problem: Problem, targets: Tensor, H: Tensor) -> Encodings:
    """Return what OHA or GRA found in the form of the consistent method."""
    G_W, _ = _head_gradient(problem)
    head = problem.head
    outputs = (H @ head.weight.double().T + head.bias.double()).softmax(1)
    seen = len(targets) * G_W.double()
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
    G_W, _ = _head_gradient(problem)
    batch, outputs = targets.shape
    scale = batch if problem.loss == "cross-entropy" else batch * outputs
    name = f"{head_name(problem.model)}.weight"
    unexplained = encodings.residual * float(G_W.double().square().mean().sqrt())
    noise = scale * max(problem.noise(name), unexplained)
    A = output_gradients(encodings.outputs, targets.double(), problem.loss, problem.class_weights).T
    solution = torch.linalg.pinv(A, rtol=RANK_CUTOFF)
    eps = torch.finfo(problem.observation.returned[name].dtype).eps
    own = eps * encodings.values.square().mean(1).sqrt()
    return torch.hypot(noise * solution.norm(dim=1), own)
