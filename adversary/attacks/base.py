"""What every attack is: one way from a problem to a reconstruction, of which it fills in steps."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

from adversary.attacks.options import check_options
from adversary.common.convert import Value
from adversary.common.errors import UserError
from adversary.common.results import Reconstruction, Solution
from adversary.optim.search import Limits, Progress, Search
from adversary.problem.problem import Problem
from adversary.problem.update_models import UpdateModel, select


class AttackError(UserError, RuntimeError):
    """An attack ended without a usable image; the message says why."""


@dataclass(frozen=True)
class Run:
    """One run of an attack: what it knows, and its clock, limits, seed and history."""

    problem: Problem
    search: Search

    @property
    def seed(self) -> int:
        """Of every random choice."""
        return self.search.seed


@dataclass(frozen=True, kw_only=True, eq=False)
class Attack(ABC):
    """From a problem to a reconstruction, by what an honest-but-curious server has.

    Subclasses set ``name``, ``title`` and ``reference``, implement :meth:`solve`, and override
    what else of :meth:`run` they do in another way. Their options are fields of a dataclass
    (:func:`~adversary.attacks.options.option`) or keywords of a constructor. They see a
    :class:`~adversary.problem.problem.Problem` and nothing else.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    reference: ClassVar[str]

    no_result: ClassVar[str] = "no finite score was reached"
    """What is said where the score is not finite."""

    def __post_init__(self) -> None:
        check_options(self)

    @final
    def run(
        self,
        problem: Problem,
        *,
        seed: int = 0,
        limits: Limits | None = None,
        progress: Progress | None = None,
    ) -> Reconstruction:
        """Reconstruct the images of one update.

        Parameters
        ----------
        problem : Problem
            What the attacker knows.
        seed : int
            Of every random choice.
        limits : Limits, optional
            Time and evaluations at most; the best so far is returned when one is reached.
        progress : callable, optional
            Told the share of the work that is done.

        Raises
        ------
        AttackError
            If no usable image was found.
        """
        run = Run(self.prepare(problem), self.search(seed, limits or Limits(), progress))
        solution = self.solve(run)
        if not self.usable(solution):
            raise self.failure(self.no_result)
        search, images = run.search, solution.images.clamp(0, 1).float().cpu()
        parts = {f.name: getattr(solution, f.name) for f in dataclasses.fields(solution)}
        parts |= {"images": images, "labels": solution.labels.cpu()}
        parts["notes"] = (*self.notes(run, solution), *search.notes, *self.update_notes(run))
        return Reconstruction(
            **parts,
            seconds=search.seconds,
            evaluations=search.evaluations,
            stopped=search.stopped,
            history=search.history,
            frames=search.frames,
            options={frame.restart: self.trial_options(frame.restart) for frame in search.frames},
        )

    @abstractmethod
    def solve(self, run: Run) -> Solution:
        """Return the images that this attack takes for the client's, with its own score of them."""

    def prepare(self, problem: Problem) -> Problem:
        """Return the problem in this attack's arithmetic.

        Raises
        ------
        AttackError
            If the attack can do nothing with such an update.
        """
        return problem

    def search(self, seed: int, limits: Limits, progress: Progress | None) -> Search:
        """Return the books of one run."""
        return Search(self.name, seed, limits, progress)

    def read(self, problem: Problem) -> UpdateModel:
        """Return how this attack reads an update of several local steps."""
        return select("auto", problem.observation)

    def trial_options(self, trial: int) -> dict[str, Value]:
        """Return the options that one trial ran with, by name."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Value)}

    def usable(self, solution: Solution) -> bool:
        """Return whether a solution may be given as a result."""
        return math.isfinite(solution.score)

    def notes(self, run: Run, solution: Solution) -> tuple[str, ...]:
        """Return what the attacker learnt about its own chances."""
        return solution.notes

    def update_notes(self, run: Run) -> tuple[str, ...]:
        """Return how an update of several steps was read, and what Adam left to read."""
        steps, recipe = run.problem.observation.steps, run.problem.observation.recipe
        notes = [f"{steps} local steps, {self.read(run.problem).name} reading"] if steps > 1 else []
        if recipe.optimizer == "adam" and steps > 1:
            notes.append("Adam clients: the update holds ratios of gradients, their scale is lost")
        elif recipe.optimizer == "adam":
            notes.append(
                f"Adam clients: {run.problem.told:.0%} of the gradient's entries are told, of "
                "others their sign"
            )
        return tuple(notes)

    def failure(self, reason: str) -> AttackError:
        """Return an error of this attack, to be raised."""
        return AttackError(f"{self.name}: {reason}")
