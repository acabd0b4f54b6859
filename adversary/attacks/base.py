"""What every attack is, and what those that match gradients by iteration share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

from adversary.common.errors import UserError
from adversary.common.results import Reconstruction
from adversary.optim.search import Limits, Progress
from adversary.problem.problem import Problem
from adversary.problem.update_models import UpdateModel


class AttackError(UserError, RuntimeError):
    """An attack ended without a usable image; the message says why."""


class AttackOptionError(UserError, ValueError):
    """A parameter of an attack is wrong; the message names it, the value and what is allowed."""


class Attack(ABC):
    """From a problem to a reconstruction, by what an honest-but-curious server has.

    Subclasses set ``name``, ``title`` and ``reference``, take their parameters by keyword, and
    implement :meth:`run`. They see a :class:`~adversary.problem.problem.Problem` and nothing else.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    reference: ClassVar[str]

    @abstractmethod
    def run(
        self,
        problem: Problem,
        *,
        seed: int = 0,
        limits: Limits = Limits(),  # noqa: B008 (frozen)
        progress: Progress | None = None,
    ) -> Reconstruction:
        """Reconstruct the images of one update.

        Parameters
        ----------
        problem : Problem
            What the attacker knows.
        seed : int
            Of every random choice.
        limits : Limits
            Time and evaluations at most; the best so far is returned when one is reached.
        progress : callable, optional
            Told the share of the work that is done.

        Raises
        ------
        AttackError
            If no usable image was found.
        """

    def __repr__(self) -> str:
        options = ", ".join(f"{k}={v!r}" for k, v in sorted(vars(self).items()))
        return f"{type(self).__name__}({options})"


def update_notes(problem: Problem, reading: UpdateModel) -> tuple[str, ...]:
    """Return how an update of several steps was read, and what Adam left to read."""
    steps, recipe = problem.observation.steps, problem.observation.recipe
    notes = [f"{steps} local steps, {reading.name} reading"] if steps > 1 else []
    if recipe.optimizer == "adam" and steps > 1:
        notes.append("Adam clients: the update holds ratios of gradients, their scale is lost")
    elif recipe.optimizer == "adam":
        notes.append(
            f"Adam clients: {problem.told:.0%} of the gradient's entries are told, of others "
            "their sign"
        )
    return tuple(notes)


def require_one_of(attack: Attack, option: str, value: str, allowed: Iterable[str]) -> None:
    """Raise :class:`AttackOptionError` unless the value is among those allowed."""
    if value not in (names := list(allowed)):
        raise AttackOptionError(
            f"{attack.name}.{option} = {value!r}: must be one of {', '.join(names)}"
        )


def require_positive(attack: Attack, **values: float) -> None:
    """Raise :class:`AttackOptionError` for the first value that is not above 0."""
    for name, value in values.items():
        if not value > 0:
            raise AttackOptionError(f"{attack.name}.{name} = {value!r}: must be > 0")


def require_non_negative(attack: Attack, **values: float) -> None:
    """Raise :class:`AttackOptionError` for the first value below 0."""
    for name, value in values.items():
        if not value >= 0:
            raise AttackOptionError(f"{attack.name}.{name} = {value!r}: must be >= 0")
