"""The ensemble as an attack."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from adversary.attacks.base import Attack, AttackError, Run
from adversary.attacks.certificates import (
    Encoded,
    Goodness,
    Laplace,
    Posterior,
    Statement,
    Tried,
    certify,
    goodness,
    interval_posterior,
    spares_columns,
)
from adversary.attacks.certificates.posterior import MAP_STEPS
from adversary.attacks.options import joined, option
from adversary.attacks.standard.doubts import doubts
from adversary.attacks.standard.effort import EFFORTS, Effort
from adversary.attacks.standard.members import (
    MEMBERS,
    Member,
    Work,
    foreign,
    gradient_operations,
)
from adversary.attacks.standard.referee import Estimate, Referee
from adversary.attacks.standard.rehearsal import Unexplained, rehearsal, residual_gradient
from adversary.common.results import Solution, Trial
from adversary.common.seeding import derive_seed
from adversary.labels.candidates import likely_labels
from adversary.optim.search import Search
from adversary.problem.gradient_span import with_counted_images
from adversary.problem.interval_equations import IntervalEquations
from adversary.problem.problem import Problem, image_prior
from adversary.problem.residuals import Residuals

MAX_PROVABLE_CHI_SQUARE = 16.0
"""Chi-square, in the ensemble's common units, up to which an estimate may be proved."""

HOPELESS_CHI_SQUARE = 1e6
"""Chi-square beyond which no other level of rounding explains what is left."""

REHEARSED = ("map", "ing", "gauss-newton")
"""Members that search where others may be right as well."""

TRIVIAL_MEMBERS = ("mean", "nearest", "linear")
"""Members that look for nothing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Standard(Attack):
    """A fixed ensemble that needs no choice: the strongest attack for the update at hand.

    After AutoAttack (Croce and Hein, ICML 2020). Members run from cheap to dear, each only where
    it suits the update and nothing is proved yet: the mean public X-ray (and that of each label),
    ``encoder``, the nearest public one, the equations linearised at the mean, ``unmixing``,
    ``batch-statistics``, ``recursive``, ``encgrad``, ``map``, ``ing`` where that gives nothing, and
    ``gauss-newton`` over all labels that may be right, from the best so far. One score compares
    all: the posterior of the whole observation through the channel
    (:mod:`adversary.attacks.standard.referee`). The mean image wins where nothing explains the
    update better. What a search makes of several images, of several steps or with much of one left
    unexplained, is given only if it gains on public X-rays that trained in the same way
    (:mod:`adversary.attacks.standard.rehearsal`). Where the best estimate explains the update the
    posterior mean at it is given, with the PSNR that it expects; and a certificate in any case
    (:mod:`adversary.attacks.certificates`).

    Parameters
    ----------
    effort : {"quick", "standard", "thorough"}
        Budgets of the members, and nothing else.
    also : str
        Further attacks to run as members, by their names in
        :data:`~adversary.attacks.ATTACKS`, joined by "+": those of one's own. Each has its own
        defaults and a limit of time; one that fails or does not end is left out.
    """

    name: ClassVar[str] = "standard"
    title: ClassVar[str] = "Standard adversary"
    reference: ClassVar[str] = "this project, after AutoAttack (Croce and Hein, ICML 2020)"

    effort: str = option("standard", choices=lambda: EFFORTS)
    also: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self._members  # a name that no attack has should not wait for a run

    @functools.cached_property
    def _members(self) -> tuple[Member, ...]:
        return (*MEMBERS, *(foreign(name) for name in filter(None, joined(self.also))))

    def prepare(self, problem: Problem) -> Problem:
        """Return the problem in float64, of as many images as the update tells."""
        return with_counted_images(problem.to(torch.float64))

    def solve(self, run: Run) -> Solution:
        """Return the most probable of the members' estimates, with what can be stated of it."""
        work = _begun(run, EFFORTS[self.effort])
        trials: list[Trial] = []
        certified: _Certified | None = None
        for place, member in enumerate(self._members):
            if place and run.search.exhausted():
                work.cut = True
                break
            if not member.suits(work):
                continue
            trials.append(_tried(member, work))
            if certified is not None and certified.estimate is not work.best:
                certified = None
            provable = work.best.chi_square < MAX_PROVABLE_CHI_SQUARE
            if certified is None and member.name != "mean" and provable:
                certified = _certified(work)
            if certified is not None and _ends(work, certified.statement):
                break
            run.search.report((place + 1) / len(self._members))
        certified = certified or _certified(work)
        if _wants_rehearsal(work, certified.statement):
            trials.append(_rehearsed(work, self._members))
            if certified.estimate is not work.best:
                certified = _certified(work)
        run.search.stopped = "seconds" if work.cut else "converged"
        return _solution(work, certified, trials)

    def usable(self, solution: Solution) -> bool:
        """Return True: the mean public X-ray is a result where nothing better was found."""
        return True


def _ends(work: Work, statement: Statement) -> bool:
    """Return whether no further member can add to what is stated.

    Second-order steps go on from what every attacker has, however well it explains the update.
    """
    if statement.certificate == "nothing":
        return True
    return statement.certificate == "proved" and work.best.member not in TRIVIAL_MEMBERS


def _wants_rehearsal(work: Work, statement: Statement) -> bool:
    """Return whether the best estimate of several images may be worth less than the mean.

    Not proved, and of several steps, or it leaves much of one unexplained.
    """
    seen = work.problem.observation
    single_client = work.problem.shape[0] > 1 and seen.view == "client"
    searched = work.best.member in REHEARSED and statement.certificate != "proved"
    doubtful = seen.steps > 1 or "misfit" in statement.flags
    return single_client and searched and doubtful and not work.search.exhausted()


def _rehearsed(work: Work, members: Sequence[Member]) -> Trial:
    """Let the best member attack public X-rays, and drop what it found if it gains nothing there.

    It never raises.
    """
    began = time.monotonic()
    try:
        note = _gain(work, next(one for one in members if one.name == work.best.member))
    except Exception as error:  # the result stands without it
        note = " ".join(str(error).split()) or type(error).__name__
    return Trial(member="rehearsal", seconds=time.monotonic() - began, note=note)


def _gain(work: Work, member: Member) -> str:
    """Return what a member gains on public X-rays, in words, and drop what it found if nothing.

    Where it gains nothing on some, others are asked as well.
    """
    gains: list[float] = []
    while len(gains) < work.effort.rehearsals and sum(gains) <= 0:
        seed = derive_seed(work.seed, len(gains))
        gain, left = _attempt(work, member, seed)
        if left.contradicted_by(work.best.chi_square):
            work.contradicted = True
            off = residual_gradient(work.problem, work.best.images, work.best.labels)
            gain, _ = _attempt(work, member, seed, off)
        gains.append(gain)
    gain = sum(gains) / len(gains)
    found = f"on public X-rays {member.name} gains {gain:.1f} dB over their mean"
    if work.contradicted:
        found = f"the update was not made as it was told; {found}, with updates off by as much"
    if gain > 0:
        return found
    work.estimates = [one for one in work.estimates if one.member in TRIVIAL_MEMBERS]
    return f"{found}, which is given"


def _attempt(
    work: Work, member: Member, seed: int, off: Mapping[str, Tensor] | None = None
) -> tuple[float, Unexplained]:
    """Return what a member gains on one rehearsal, in dB, and what is left of its update.

    Raises
    ------
    AttackError
        If it cannot tell.
    """
    place = rehearsal(work.problem, work.best.labels, seed, off)
    if place is None:
        raise AttackError("fewer public X-rays than images of the update")
    search = Search("rehearsal", work.seed, work.search.limits, started=work.search.started)
    other = _begun(Run(place.problem, search), work.effort)
    failure = _tried(member, other).note
    work.cut |= other.cut
    if failure or other.cut:
        raise AttackError(failure or "the time ended before it could tell")
    best, images = other.best, work.prior.mean.expand(work.problem.shape)
    mean = other.referee.estimate("mean", images, best.labels)
    return place.gain(best.images, work.prior.mean), Unexplained(best.chi_square, mean.chi_square)


def _begun(run: Run, effort: Effort) -> Work:
    problem, prior = run.problem, image_prior(run.problem)
    referee, mean = Referee(problem, prior, run.seed), prior.mean.expand(problem.shape)
    labels = likely_labels(problem, mean)
    return Work(
        problem=problem,
        prior=prior,
        referee=referee,
        labels=labels,
        estimates=[referee.unscored("mean", mean.clone(), labels[0])],
        effort=effort,
        search=run.search,
        seed=run.seed,
        operations=gradient_operations(problem),
    )


def _tried(member: Member, work: Work) -> Trial:
    """Run a member, keep what it finds, and return what became of it; it never raises."""
    began = time.monotonic()
    scores: list[float] = []
    note = ""
    try:
        for images, labels in member.run(work):
            estimate = work.referee.estimate(member.name, images, labels)
            work.estimates.append(estimate)
            scores.append(estimate.cost)
    except Exception as error:  # whatever it is, the others go on
        note = " ".join(str(error).split()) or type(error).__name__
        work.failed |= not isinstance(error, AttackError)
    return Trial(
        member=member.name,
        seconds=time.monotonic() - began,
        score=min(scores, default=None),
        note=note,
    )


@dataclass(frozen=True)
class _Certified:
    """The best estimate, with what can be stated of it; without a PSNR where none can be told."""

    estimate: Estimate
    images: Tensor
    statement: Statement
    chi_square: float
    psnr: Tensor | None = None


def _certified(work: Work) -> _Certified:
    """Return what can be stated of the best estimate."""
    best = work.best
    if (limits := work.referee.limits(best.labels)) is not None:
        return _certified_by_limits(work, limits)
    if best.chi_square >= HOPELESS_CHI_SQUARE:
        statement = Statement(certificate="open", flags=("misfit",))
        return _Certified(best, best.images.clamp(0, 1), statement, best.chi_square)
    equations = work.referee.equations(best.labels).calibrated(best.images, work.seed)
    residual = equations(best.images)
    unknowns = min(best.images.numel(), len(residual))
    fits = [goodness(equations, residual, p) for p in (0, unknowns)]
    explained = any(fit.explained for fit in fits)
    work.explained = explained and best.member not in TRIVIAL_MEMBERS
    clamped, chi_square = best.images.clamp(0, 1), fits[0].chi_square
    if not explained:
        statement = Statement(certificate="open", flags=("misfit",))
        return _Certified(best, clamped, statement, chi_square)
    try:
        found, posterior = _local(work, equations)
    except (ValueError, RuntimeError, MemoryError) as error:  # what is found is given all the same
        work.search.notes.append(f"no posterior: {' '.join(str(error).split())}")
        return _Certified(best, clamped, Statement(certificate="open"), chi_square)
    residual = equations(posterior.estimate)
    fit = goodness(equations, residual, posterior.parameters, posterior.by_array)
    statement = _stated(work, posterior, fit, len(equations))
    if not found.joint and statement.certificate == "proved":
        statement = Statement(certificate="open", flags=("several-explanations",))
    return _Certified(best, posterior.images, statement, fit.chi_square, posterior.psnr)


def _certified_by_limits(work: Work, limits: IntervalEquations) -> _Certified:
    """Return what can be stated of the best estimate where the update tells limits alone."""
    best, clamped = work.best, work.best.images.clamp(0, 1)
    work.explained = False
    if best.member in TRIVIAL_MEMBERS:
        statement = Statement(certificate="open", flags=("misfit",))
        return _Certified(best, clamped, statement, best.chi_square)
    try:
        posterior, fit = interval_posterior(limits, best.images, work.prior, work.seed)
    except (ValueError, RuntimeError, MemoryError) as error:  # what is found is given all the same
        work.search.notes.append(f"no posterior: {' '.join(str(error).split())}")
        return _Certified(best, clamped, Statement(certificate="open"), best.chi_square)
    work.explained = fit.explained
    statement = _stated(work, posterior, fit, len(limits))
    psnr = posterior.psnr if fit.explained else None
    return _Certified(best, posterior.images, statement, fit.chi_square, psnr)


def _stated(work: Work, posterior: Posterior, fit: Goodness, equations: int) -> Statement:
    """Return what follows from posterior and fit of the best estimate."""
    tried = Tried(
        equations=equations,
        rivals=[one for one in work.estimates if one is not work.best],
        complete=work.complete,
    )
    return certify(work.best, posterior, fit, work.prior, tried)


def _local(work: Work, equations: Residuals) -> tuple[Laplace | Encoded, Posterior]:
    """Return the posterior at the best estimate, by what costs least, and after one step."""
    best = work.best
    if best.member in ("mean", "linear") and work.linear is not None:
        return work.linear, work.linear.at(steps=1)
    found: Laplace | Encoded
    dear = work.columns(best.images.numel()) > work.effort.operations
    by_encoder = best.member == "encoder" and spares_columns(best.images.numel())
    if work.encoding is not None and (dear or by_encoder):
        found = Encoded(equations, best.images, work.prior, work.encoding.normal(best.images))
        try:
            return found, found.at(steps=MAP_STEPS)
        except ValueError as error:
            work.search.notes.append(str(error))
    if dear:
        raise ValueError("its covariance costs more than the effort allows")
    found = Laplace(equations, best.images, work.prior)
    return found, found.at(steps=MAP_STEPS)


def _solution(work: Work, found: _Certified, trials: list[Trial]) -> Solution:
    statement = found.statement
    doubted = doubts(work.problem)
    flags, certificate, psnr = list(statement.flags), statement.certificate, found.psnr
    if work.cut or doubted:
        certificate = "open" if certificate == "proved" else certificate
    if doubted:  # an expectation under a likelihood that is not the channel's
        psnr = None
    flags += ["time-limit"] if work.cut else []
    flags += ["member-failed"] if work.failed else []
    flags += [] if math.isfinite(found.estimate.cost) else ["diverged"]
    flags += ["recipe-contradicted"] if work.contradicted else []
    flags += doubted
    members = dict.fromkeys(trial.member for trial in trials)
    return Solution(
        images=found.images,
        labels=found.estimate.labels,
        score=found.chi_square,
        notes=(
            f"{found.estimate.member} of {', '.join(members)}",
            f"reduced chi-square {found.chi_square:.4g}",
            *(f"{trial.member}: {trial.note}" for trial in trials if trial.note),
        ),
        expected_psnr=None if psnr is None else tuple(psnr.tolist()),
        certificate=certificate,
        member=found.estimate.member,
        trials=tuple(trials),
        flags=tuple(dict.fromkeys(flags)),
    )
