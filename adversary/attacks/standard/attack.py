"""The ensemble as an attack."""

from __future__ import annotations

import time
from typing import ClassVar

import torch

from adversary.attacks.base import Attack, AttackError, notes_on, one_of
from adversary.attacks.standard.effort import EFFORTS
from adversary.attacks.standard.members import (
    MEMBERS,
    Member,
    Work,
    foreign,
    gradient_operations,
)
from adversary.attacks.standard.referee import Referee
from adversary.certificates import (
    Encoded,
    Laplace,
    Posterior,
    Statement,
    certify,
    expected_psnr,
    goodness,
)
from adversary.label_candidates import likely_labels
from adversary.optimise import Limits, Progress, Search
from adversary.problem import Problem
from adversary.readings import choose
from adversary.reconstruction import Reconstruction, Trial
from adversary.residuals import Residuals
from adversary.smoothness import distribution

PLAUSIBLE = 16.0
"""Chi-square, in the ensemble's common units, up to which an estimate may be proved."""


TRIVIAL = ("mean", "nearest", "linear")
"""Members that look for nothing."""


class Standard(Attack):
    """A fixed ensemble that needs no choice: the strongest attack for the update at hand.

    After AutoAttack (Croce and Hein, ICML 2020). Members run from cheap to dear, each only where
    it suits the update and nothing is proved yet: the mean public X-ray, the nearest public one,
    ``encoder``, the equations linearised at the mean, ``batch-statistics``, ``recursive``,
    ``encgrad``, ``gauss-newton`` over all labels that may be right, ``ing``, and ``gauss-newton``
    again from the best so far. One score compares all: the posterior of the whole observation
    (:mod:`adversary.attacks.standard.referee`). The mean image wins where nothing explains the
    update better. What is given is the posterior mean at the most probable estimate, with the
    noise taken as large as what is left unexplained, with the PSNR that it expects and a
    certificate (:mod:`adversary.certificates`).

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

    def __init__(self, *, effort: str = "standard", also: str = "") -> None:
        one_of(self, "effort", effort, EFFORTS)
        self.effort = effort
        self.also = also
        self._members = (*MEMBERS, *(foreign(name) for name in filter(None, also.split("+"))))

    def run(
        self,
        problem: Problem,
        *,
        seed: int = 0,
        limits: Limits = Limits(),  # noqa: B008 (frozen)
        progress: Progress | None = None,
    ) -> Reconstruction:
        """See :meth:`adversary.attacks.base.Attack.run`."""
        work = _begun(problem.to(torch.float64), self.effort, Search(self.name, seed, limits, None))
        trials: list[Trial] = []
        certified = None
        for place, member in enumerate(self._members):
            if work.estimates and work.search.exhausted():
                work.cut = True
                break
            if not member.suits(work):
                continue
            before = work.best if work.estimates else None
            trials.append(_tried(member, work))
            certified = certified if work.best is before else None
            if certified is None and member.name != "mean" and work.best.chi_square < PLAUSIBLE:
                certified = _certified(work)
            if certified is not None and _ends(work, certified[1]):
                break
            if progress is not None:
                progress(self.name, (place + 1) / len(self._members))
        posterior, statement, chi_square = certified or _certified(work)
        return _reconstruction(work, posterior, statement, chi_square, trials)


def _ends(work: Work, statement: Statement) -> bool:
    """Return whether no further member can add to what is stated.

    Second-order steps go on from what every attacker has, however well it explains the update.
    """
    if statement.certificate == "nothing":
        return True
    return statement.certificate == "proved" and work.best.member not in TRIVIAL


def _begun(problem: Problem, effort: str, search: Search) -> Work:
    prior = distribution(problem)
    return Work(
        problem=problem,
        prior=prior,
        referee=Referee(problem, prior, search.seed),
        labels=likely_labels(problem, prior.mean.expand(problem.shape)),
        effort=EFFORTS[effort],
        search=search,
        seed=search.seed,
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


def _certified(work: Work) -> tuple[Posterior, Statement, float]:
    """Return the posterior at the best estimate, what can be stated of it, and its chi-square."""
    best = work.best
    equations = work.referee.equations(best.labels).calibrated(best.images, work.seed)
    try:
        found, posterior = _local(work, equations)
        fit = goodness(equations, equations(best.images), posterior.parameters)
        work.explained = fit.explained
        if not fit.explained:
            temperature = max(1.0, float(found.residual.square().sum()) / best.images.numel())
            posterior = found.at(temperature, step=True)
    except ValueError as error:
        work.search.notes.append(f"no posterior: {error}")
        unknown = work.prior.variance.view(1, *best.images.shape[1:]).expand_as(best.images)
        posterior = Posterior(
            images=best.images.clamp(0, 1),
            variance=unknown,
            parameters=0.0,
            freedom=torch.ones(len(unknown)),
        )
        fit = goodness(equations, equations(best.images), 0.0)
        return posterior, Statement(certificate="open"), fit.chi_square
    statement = certify(
        best,
        posterior,
        fit,
        work.prior,
        equations=len(equations),
        rivals=[one for one in work.estimates if one is not best],
        complete=work.complete(best),
        confirmed=False,
    )
    if not found.joint and statement.certificate == "proved":
        statement = Statement(certificate="open", flags=("several-explanations",))
    return posterior, statement, fit.chi_square


def _local(work: Work, equations: Residuals) -> tuple[Laplace | Encoded, Posterior]:
    """Return the posterior at the best estimate, by what costs least, and after one step."""
    best = work.best
    found: Laplace | Encoded
    if work.encoding is not None:
        found = Encoded(equations, best.images, work.prior, work.encoding.normal(best.images))
        try:
            return found, found.at(step=True)
        except ValueError as error:
            work.search.notes.append(str(error))
    if work.columns(best.images.numel()) > work.effort.operations:
        raise ValueError("its covariance costs more than the effort allows")
    if best.member in ("mean", "linear") and work.linear is not None:
        found = work.linear
    else:
        found = Laplace(equations, best.images, work.prior)
    return found, found.at(step=True)


def _reconstruction(
    work: Work, posterior: Posterior, statement: Statement, chi_square: float, trials: list[Trial]
) -> Reconstruction:
    best, search = work.best, work.search
    flags = list(statement.flags)
    certificate = statement.certificate
    if work.cut:
        flags.append("time-limit")
        certificate = "open" if certificate == "proved" else certificate
    if work.failed:
        flags.append("member-failed")
    told = [f"{t.member}: {t.note}" for t in trials if t.note]
    return Reconstruction(
        images=posterior.images.float().cpu(),
        labels=best.labels.cpu(),
        score=chi_square,
        seconds=search.seconds,
        evaluations=search.evaluations,
        stopped="seconds" if work.cut else "converged",
        history=search.history,
        notes=(
            f"{best.member} of {', '.join(dict.fromkeys(t.member for t in trials))}",
            f"reduced chi-square {chi_square:.4g}",
            *told,
            *search.notes,
            *notes_on(work.problem, choose("auto", work.problem.observation)),
        ),
        expected_psnr=tuple(expected_psnr(posterior.variance).tolist()),
        certificate=certificate,
        member=best.member,
        trials=tuple(trials),
        flags=tuple(dict.fromkeys(flags)),
    )
