"""What the ensemble tries, cheap members first, and when."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from adversary.attacks.base import Attack, Run
from adversary.attacks.batch_statistics import BatchStatistics
from adversary.attacks.certificates import Laplace
from adversary.attacks.certificates.posterior import fits
from adversary.attacks.encgrad import EncGradInversion
from adversary.attacks.encoder import Encoder, EncodingEquations, EncodingError
from adversary.attacks.gauss_newton import MEMORY_BYTES, ActivationResiduals, GaussNewton, has_relu
from adversary.attacks.ing import ING
from adversary.attacks.most_probable import MostProbable
from adversary.attacks.recursive import Recursive
from adversary.attacks.standard.effort import Effort
from adversary.attacks.standard.referee import Estimate, Referee
from adversary.attacks.standard.watchdog import within
from adversary.common.results import IterationRecord
from adversary.common.seeding import derive_seed, generator
from adversary.optim.quadratic_models import DenseModel
from adversary.optim.search import Limits, Search
from adversary.priors.gaussian import GaussianPrior
from adversary.problem.gradient_span import layer_gradient
from adversary.problem.problem import Problem
from adversary.problem.update_models import UNROLLED_STEPS, assumed_batches

MAX_NOISE_CHI_SQUARE = 3.0
"""Chi-square of the mean public X-ray up to which noise may be all that an update holds."""

MIN_JACOBIANS, REFINING_JACOBIANS = 5, 1
"""Jacobians that a descent by second-order steps takes at least, from afar and from close by."""

EXPLAINED_CHI_SQUARE = 4.0
"""Chi-square from which no further start is worth its cost."""

MIN_IMAGES_PER_LABEL = 8
"""Public X-rays of a label whose mean stands for it."""

GRADIENTS_PER_COLUMN = 3.0
"""Cost of a column of a Jacobian, in gradients; of a match of gradients the same and more."""

GRADIENTS_PER_TANGENT = 1.0
"""Cost of a forward derivative of a layer's inputs, in gradients."""

OPERATIONS_PER_SECOND = 1e10
"""Multiplications a second, roughly, by which work becomes a limit of time for foreign code."""

MIN_ITERATIONS = 20
"""Iterations that match gradients at least, where they are worth a start at all."""

MIN_AFFORDABLE = 5
"""Iterations below which matching gradients is not begun: it would end where it starts."""

GRADIENTS_PER_MATCH = 5.0
"""Cost of one evaluation that matches gradients, in gradients."""

Found = tuple[Tensor, Tensor]
"""Images and labels that a member gives."""


@dataclass(kw_only=True)
class Work:
    """One run of the ensemble: what it knows, what it has found, what it may still spend.

    Parameters
    ----------
    problem : Problem
        In float64.
    prior : GaussianPrior
        Of each image.
    referee : Referee
        Scores all estimates.
    labels : list of Tensor
        The labels that may be right, likeliest first.
    effort : Effort
        Budgets.
    search : Search
        Clock and limits of the whole run.
    seed : int
        Of every random choice.
    operations : float
        Multiplications that one gradient of one image costs.
    estimates : list of Estimate
        What was found, in order.
    ended : list of Tensor
        Labels under which a descent came to its end.
    starts : int
        Starts of second-order steps so far.
    linear : Laplace or None
        The equations linearised at the mean public X-ray, where they were.
    explained : bool
        Whether the best estimate explains the update.
    cut, failed : bool
        Whether a limit of the user's cut a member off, and whether one raised an error.
    contradicted : bool
        Whether the update was not made as the attacker was told.
    """

    problem: Problem
    prior: GaussianPrior
    referee: Referee
    labels: list[Tensor]
    effort: Effort
    search: Search
    seed: int
    operations: float
    estimates: list[Estimate] = field(default_factory=list)
    ended: list[Tensor] = field(default_factory=list)
    starts: int = 0
    linear: Laplace | None = None
    explained: bool = False
    cut: bool = False
    failed: bool = False
    contradicted: bool = False

    @property
    def best(self) -> Estimate:
        """The most probable estimate so far."""
        return min(self.estimates, key=lambda estimate: estimate.cost)

    @functools.cached_property
    def encoding(self) -> EncodingEquations | None:
        """Equations of one image's encoding; None where the update does not tell it."""
        try:
            return None if has_relu(self.problem.model) else EncodingEquations(self.problem)
        except EncodingError:
            return None

    @property
    def noisy(self) -> bool:
        """Whether the channel adds noise; else rounding is all there is."""
        return bool(self.problem.threat.channel.noise)

    @functools.cached_property
    def column(self) -> float:
        """Gradients of single images that a column of the Jacobian costs, on average.

        Of local steps those count from the first on in which the pixel's image is used.
        """
        seen = self.problem.observation
        if seen.view != "client":
            return GRADIENTS_PER_COLUMN
        left: dict[int, int] = {}
        for step, batch in enumerate(assumed_batches(seen)):
            for image in batch.tolist():
                left.setdefault(image, seen.steps - step)
        return GRADIENTS_PER_COLUMN * sum(left.values()) / len(left)

    def columns(self, unknowns: int) -> float:
        """Return the multiplications of a Jacobian of so many columns."""
        return unknowns * self.column * self.operations

    @property
    def complete(self) -> bool:
        """Whether no other labels are left that may explain the update as well.

        Rounding leaves none where it is explained at all; noise only those that were tried.
        """
        if not self.noisy or len(self.labels) == 1:
            return True
        ended = {_key(labels) for labels in self.ended}  # of several starts
        return all(_key(labels) in ended for labels in self.labels)

    @property
    def passes(self) -> int:
        """Gradients of single images that the client's local training takes."""
        seen = self.problem.observation
        if seen.steps == 1 or seen.view != "client":
            return seen.images
        return sum(map(len, assumed_batches(seen)))

    def limits(self, gradients: float) -> Limits:
        """Return what a member may spend, one evaluation costing so many gradients of an image."""
        seconds = self.search.limits.seconds
        left = None if seconds is None else max(0.0, seconds - self.search.seconds)
        each = gradients * self.operations
        return Limits(seconds=left, evaluations=max(1, int(self.effort.operations / each)))

    def clock(self, member: str, gradients: float) -> Search:
        """Return the books of one member."""
        seed = derive_seed(self.seed, member, self.starts)
        return Search(member, seed, self.limits(gradients))


@dataclass(frozen=True)
class Member:
    """One thing that the ensemble tries.

    Parameters
    ----------
    name : str
        As in the column ``member``.
    suits : callable
        Whether it can say anything of the update at hand, and is worth its cost.
    run : callable
        Yields images and labels.
    """

    name: str
    suits: Callable[[Work], bool]
    run: Callable[[Work], Iterator[Found]]


def _key(labels: Tensor) -> tuple[float, ...]:
    return tuple(labels.flatten().tolist())


def _always(work: Work) -> bool:
    return True


def _mean(work: Work) -> Iterator[Found]:
    """Yield the mean public X-ray, and the mean of those of each label, under each of the labels.

    The second where all of these labels have :data:`MIN_IMAGES_PER_LABEL` public X-rays.
    """
    for labels in work.labels:
        yield work.prior.mean.expand(work.problem.shape).clone(), labels
        if (means := _means_by_label(work, labels)) is not None:
            yield means, labels


def _means_by_label(work: Work, labels: Tensor) -> Tensor | None:
    public = work.problem.prior
    if public is None or public.labels is None or public.labels.shape[1:] != labels.shape[1:]:
        return None
    known, wanted = (x.flatten(1) if x.ndim > 1 else x[:, None] for x in (public.labels, labels))
    alike = (wanted[:, None].cpu().double() == known[None].cpu().double()).all(2)  # (B, N)
    if int(alike.sum(1).min()) < MIN_IMAGES_PER_LABEL:
        return None
    share = (alike / alike.sum(1, keepdim=True)).to(work.best.images)
    return torch.einsum("bn,nchw->bchw", share, public.images.to(work.best.images))


def _has_public(work: Work) -> bool:
    public = work.problem.prior
    if public is None or work.problem.shape[0] != 1:
        return False
    gradients = len(public.images) * len(work.labels) * work.problem.observation.steps
    return gradients * work.operations <= work.effort.operations


def _nearest(work: Work) -> Iterator[Found]:
    """Yield the public X-ray whose own update is nearest to the one observed."""
    assert work.problem.prior is not None
    public = work.problem.prior.images.to(work.problem.device, work.problem.dtype)
    for labels in work.labels:
        equations = work.referee.equations(labels)
        misfits = [float(equations(image[None]).square().sum()) for image in public]
        yield public[int(torch.tensor(misfits).argmin())][None], labels


def _tells_encoding(work: Work) -> bool:
    return work.encoding is not None


def _encoder(work: Work) -> Iterator[Found]:
    """Yield the image of the encoding; it costs forward passes alone, which no effort spares."""
    yield from _run(Encoder(), work, Limits(seconds=work.limits(1.0).seconds))


def _may_be_noise(work: Work) -> bool:
    return (
        work.noisy
        and work.best.chi_square < MAX_NOISE_CHI_SQUARE
        and fits(math.prod(work.problem.shape))
    )


def _linear(work: Work) -> Iterator[Found]:
    """Yield the most probable images of the equations linearised at the mean public X-ray."""
    labels = work.best.labels
    equations = work.referee.equations(labels)
    work.linear = Laplace(equations, work.prior.mean.expand(work.problem.shape), work.prior)
    yield work.linear.at(steps=1).images, labels


def _trains_norms(work: Work) -> bool:
    norms = any(isinstance(m, _BatchNorm) for m in work.problem.model.modules())
    buffers = any(n.endswith("running_mean") for n in work.problem.observation.returned)
    trained = work.problem.observation.recipe.batch_norm == "train"
    return trained and buffers and (norms or work.problem.observation.view == "client")


def _of(attack: Attack, work: Work, gradients: float) -> Iterator[Found]:
    yield from _run(attack, work, work.limits(gradients))


def _run(attack: Attack, work: Work, limits: Limits) -> Iterator[Found]:
    found = attack.run(work.problem, seed=derive_seed(work.seed, attack.name), limits=limits)
    work.search.evaluations += found.evaluations
    work.search.history += found.history
    work.cut |= found.stopped == "seconds"
    yield found.images.double(), found.labels


def _batch_statistics(work: Work) -> Iterator[Found]:
    yield from _of(
        BatchStatistics(iterations=work.effort.stages), work, GRADIENTS_PER_MATCH * work.passes
    )


def _has_kinks(work: Work) -> bool:
    return has_relu(work.problem.model)


def _recursive(work: Work) -> Iterator[Found]:
    yield from _of(Recursive(), work, GRADIENTS_PER_COLUMN)


def _tells_encodings(work: Work) -> bool:
    one_step = work.problem.observation.steps == 1
    return one_step and not work.noisy and work.problem.outputs > 2 and work.problem.head.complete


def _encgrad(work: Work) -> Iterator[Found]:
    yield from _of(
        EncGradInversion(iterations=work.effort.iterations), work, GRADIENTS_PER_MATCH * work.passes
    )


def _kept_apart(work: Work) -> bool:
    return layer_gradient(work.problem) is not None


def _unmixed(work: Work) -> Iterator[Found]:
    """Yield the images one by one, then where second-order steps on the whole update end."""
    attack, search = GaussNewton(), work.clock("unmixing", GRADIENTS_PER_TANGENT)
    apart = attack.unmixed(Run(work.problem, search))
    assert apart is not None
    work.search.evaluations += search.evaluations
    yield apart.images, apart.labels
    if apart.count == len(apart.images) and _smooth(work, REFINING_JACOBIANS):
        search = work.clock("unmixing", work.column)
        end = attack.refined(Run(work.problem, search), apart)
        work.search.evaluations += search.evaluations
        yield end.place.images, end.labels


def _smooth(work: Work, jacobians: int = MIN_JACOBIANS) -> bool:
    """Whether second-order steps can follow the update, and so many fit memory and budget."""
    problem, unknowns = work.problem, math.prod(work.problem.shape)
    if has_relu(problem.model) and not ActivationResiduals.suits(problem):
        return False
    if problem.observation.steps > UNROLLED_STEPS or work.starts >= work.effort.starts:
        return False
    columns = work.limits(work.column).evaluations
    affordable = columns is not None and columns >= jacobians * unknowns
    return affordable and DenseModel.memory(unknowns, 0) < MEMORY_BYTES


def _gauss_newton(work: Work) -> Iterator[Found]:
    """Yield where second-order steps end, under each label, from one start after the other."""
    while _smooth(work) and not (work.starts and work.best.chi_square < EXPLAINED_CHI_SQUARE):
        yield from _descended(work)


def _descended(work: Work) -> Iterator[Found]:
    attack = GaussNewton()
    search = work.clock(attack.name, work.column)
    start = _start(work)
    work.starts += 1
    ends = attack.descents(Run(work.problem, search), start)
    work.search.evaluations += search.evaluations
    work.search.history += [
        IterationRecord(work.starts - 1, step.iteration, step.score, step.seconds)
        for step in search.history
    ]
    work.cut |= search.stopped == "seconds"
    for end in ends:
        if end.place.settled or search.stopped == "iterations":
            work.ended.append(end.labels)
        yield end.place.images, end.labels


def _start(work: Work) -> Tensor:
    """Return the best estimate at first, then plain grey, then draws of the prior."""
    if not work.starts:
        return work.best.images.clone()
    if work.starts == 1:
        return GaussNewton().first_start(work.problem, work.seed)
    draw = generator(work.seed, "restart", work.starts)
    return work.prior.sample(work.problem.shape[0], generator=draw).to(work.best.images)


def _unexplained(work: Work) -> bool:
    return not work.explained and _matches(work) >= MIN_AFFORDABLE


def _matches(work: Work) -> int:
    """Return how many iterations that match gradients the effort allows."""
    return work.limits(GRADIENTS_PER_MATCH * work.passes).evaluations or 1


def _affordable(work: Work, most: int) -> int:
    """Return how many of them to take, :data:`MIN_ITERATIONS` to ``most``."""
    return max(MIN_ITERATIONS, min(most, _matches(work)))


def _most_probable(work: Work) -> Iterator[Found]:
    attack = MostProbable(iterations=_affordable(work, work.effort.iterations))
    yield from _of(attack, work, GRADIENTS_PER_MATCH * work.passes)


def _no_posterior(work: Work) -> bool:
    """Whether the search for the most probable images was tried and came to nothing."""
    found = any(estimate.member == "map" for estimate in work.estimates)
    return _unexplained(work) and not found


def _matched(work: Work) -> Iterator[Found]:
    """Yield what Inverting Gradients comes to, from the mean public X-ray."""
    start = "grey" if work.problem.prior is None else "mean"
    attack = ING(iterations=_affordable(work, work.effort.iterations), start=start)
    yield from _of(attack, work, GRADIENTS_PER_MATCH * work.passes)


MEMBERS: tuple[Member, ...] = (
    Member("mean", _always, _mean),
    Member("encoder", _tells_encoding, _encoder),
    Member("nearest", _has_public, _nearest),
    Member("linear", _may_be_noise, _linear),
    Member("unmixing", _kept_apart, _unmixed),
    Member("batch-statistics", _trains_norms, _batch_statistics),
    Member("recursive", _has_kinks, _recursive),
    Member("encgrad", _tells_encodings, _encgrad),
    Member("map", _unexplained, _most_probable),
    Member("ing", _no_posterior, _matched),
    Member("gauss-newton", _smooth, _gauss_newton),
)
"""In the order in which they run; the next one only where nothing is proved yet."""


def foreign(name: str) -> Member:
    """Return an attack from outside as a member, under a limit of time.

    Raises
    ------
    AttackOptionError
        For a name that no attack has.
    """
    from adversary.attacks import create  # the registry holds the ensemble itself

    attack = create(name)

    def run(work: Work) -> Iterator[Found]:
        seconds = work.effort.operations / OPERATIONS_PER_SECOND
        found = within(
            seconds,
            lambda: attack.run(
                work.problem.to(torch.float32),
                seed=derive_seed(work.seed, name),
                limits=Limits(seconds=seconds),
            ),
        )
        yield found.images.double(), found.labels

    return Member(name, _always, run)


def gradient_operations(problem: Problem) -> float:
    """Return the multiplications of one image's gradient, counted in one forward pass."""
    from torch.utils.flop_counter import FlopCounterMode  # slow to import

    image = torch.zeros(2, *problem.shape[1:], device=problem.device, dtype=problem.dtype)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        problem.model(image)
    return max(3.0 * counter.get_total_flops() / 2, 1e4)
