from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from adversary.attacks import Attack, AttackError, AttackOptionError, Solution, option, options_of
from adversary.attacks.options import Rule
from adversary.optim.search import Limits


@dataclass(frozen=True, kw_only=True, eq=False)
class Constant(Attack):
    """Gives the same images whatever the update is."""

    name: ClassVar[str] = "constant"
    title: ClassVar[str] = "Constant"
    reference: ClassVar[str] = "none"

    grey: float = option(0.5, minimum=0, maximum=1)
    score: float = 0.0

    def solve(self, run):
        run.search.notes.append("a note of the search")
        run.search.evaluations += 3
        images = torch.full((1, 1, 2, 2), 2 * self.grey, dtype=torch.float64)
        return Solution(images=images, labels=torch.tensor([1]), score=self.score, notes=("own",))

    def update_notes(self, run):
        return ("of the update",)


class Faint(Constant):
    """Is darker, by an option of a plain constructor."""

    def __init__(self, *, factor: float = 0.5) -> None:
        super().__init__(grey=0.5 * factor)


@pytest.mark.parametrize(
    ("rule", "allowed", "refused", "words"),
    [
        (Rule(above=0), [1e-9, 3], [0, -1, math.nan], "> 0"),
        (Rule(minimum=0), [0, 2.5], [-1e-9, math.nan], ">= 0"),
        (Rule(above=0, maximum=1), [1, 0.5], [0, 1.5], "> 0 and <= 1"),
        (Rule(choices=lambda: ["a", "b"]), ["a"], ["c", ""], "one of a, b"),
    ],
)
def test_a_rule_says_what_it_allows(rule, allowed, refused, words):
    assert all(rule.allows(value) for value in allowed)
    assert not any(rule.allows(value) for value in refused)
    assert str(rule) == words


def test_a_field_that_its_rule_does_not_allow_is_refused_in_one_line():
    with pytest.raises(AttackOptionError, match=r"^constant.grey = 1.5: must be >= 0 and <= 1$"):
        Constant(grey=1.5)


def test_options_are_fields_and_keywords_with_their_defaults():
    assert options_of(Constant) == {"grey": (float, 0.5), "score": (float, 0.0)}
    assert options_of(Faint)["factor"] == (float, 0.5)
    assert Faint().grey == 0.25


def test_a_run_makes_a_result_of_what_was_solved():
    found = Constant(grey=0.7).run(None, seed=4)
    assert found.images.dtype == torch.float32
    assert torch.equal(found.images, torch.ones(1, 1, 2, 2))  # clamped
    assert (found.labels.tolist(), found.evaluations, found.stopped) == ([1], 3, "iterations")
    assert found.notes == ("own", "a note of the search", "of the update")
    assert found.seconds >= 0


def test_a_run_without_a_finite_score_fails():
    with pytest.raises(AttackError, match="^constant: no finite score was reached$"):
        Constant(score=math.nan).run(None)


def test_the_books_of_a_run_have_its_seed_and_limits():
    limits = Limits(evaluations=7)
    books = Constant().search(5, limits, None)
    assert (books.name, books.seed, books.limits) == ("constant", 5, limits)
