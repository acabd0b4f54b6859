from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from scipy import stats

from adversary.common.truth import Truth
from adversary.identification import Identification, IdentificationResult
from adversary.identification.null import Scores
from adversary.scoring.identification_scores import (
    by_patient,
    candidate_scores,
    figures,
    in_words,
    joined_scores,
)
from adversary.scoring.scorer import Scorer

NULL = torch.linspace(-2, 2, 41, dtype=torch.float64)


def identification(scores, names=None, expected=None):
    scores = torch.tensor(scores, dtype=torch.float64)
    expected = torch.full_like(scores, 3.0) if expected is None else torch.tensor(expected).double()
    said = Scores(
        values=scores, expected=expected, null=NULL / NULL.std(), null_expected=torch.ones(41)
    )
    names = names or tuple(f"x{i}" for i in range(len(scores)))
    return Identification(
        names=names, scores=said, p_values=scores, posteriors=scores, rate=0.25,
        seconds=2.0, flags=("sketched",),
    )  # fmt: skip


def truth(*names):
    return Truth(images=torch.zeros(len(names), 1, 1, 1), labels=torch.zeros(1), names=names)


def test_of_several_x_rays_the_likeliest_counts_with_its_p_value_times_their_number():
    patients = {"a1": "a", "a2": "a", "b1": "b"}
    found = identification([1.0, 3.0, 2.0], names=("a1", "b1", "a2"))
    people = by_patient(candidate_scores(found, truth("a1"), patients))
    assert people.names == ("a", "b")
    assert people.scores.tolist() == [2.0, 3.0]
    tail = lambda x: stats.t.sf(x / math.sqrt(1 + 1 / 41), 40)  # noqa: E731
    assert people.p_values.tolist() == pytest.approx([2 * tail(2.0), tail(3.0)])
    assert people.members.tolist() == [True, False]


def test_figures_are_of_members_beside_others():
    scores = [5.0, 4.0, 0.5, *torch.linspace(-1, 1, 100).tolist()]
    row = figures(candidate_scores(identification(scores), truth("x0", "x1", "x2"), {}))
    assert (row["members"], row["candidates"]) == (3, 103)
    assert row["tpr_1"] == pytest.approx(2 / 3)
    u = stats.mannwhitneyu(scores[:3], scores[3:]).statistic
    assert row["auc"] == pytest.approx(u / 300)
    assert "epsilon" not in row
    assert row["flags"] == "sketched"


def test_an_account_that_is_wrong_is_below_what_is_proved():
    scores = [*[9.0] * 60, *torch.linspace(-1, 1, 300).tolist()]
    scored = candidate_scores(identification(scores), truth(*(f"x{i}" for i in range(60))), {})
    row = figures(scored, (1.0, 1e-5))
    assert row["epsilon"] == 1.0
    assert row["ceiling_tpr_1"] == pytest.approx(math.e * 0.01 + 1e-5)
    assert row["epsilon_lower"] > 3.0
    assert "epsilon" not in figures(scored, (math.inf, 1e-5))


def test_joined_rounds_have_the_members_of_any():
    one, two = (candidate_scores(identification([3.0, 2.0, 0.0, -1.0]), truth(name), {})
                for name in ("x0", "x1"))  # fmt: skip
    both = joined_scores([one, two])
    assert both.members == (True, True, False, False)
    assert both.seconds == 4.0
    nobody = dataclasses.replace(one, members=None)
    assert joined_scores([nobody, nobody]).members is None


def test_words_tell_of_patients_and_without_the_truth_of_candidates():
    scores = [6.0, 6.0, *torch.linspace(-1, 1, 100).tolist()]
    known = candidate_scores(identification(scores), truth("x0", "x1"), {})
    assert in_words(known) == "2 of 2 patients named at one false alarm in a hundred (AUC 1.000)"
    unknown = candidate_scores(identification(scores), None, {})
    assert in_words(unknown) == "2 of 102 candidates at a false discovery rate of 5 %"
    assert "members" not in figures(unknown)


def test_the_scorer_alone_knows_who_took_part():
    result = IdentificationResult(seconds=1.0, found=identification([3.0, 0.0]))
    told = Scorer(truth=lambda _: truth("x1")).score_result(None, result)
    assert told.scored.members == (False, True)
    assert Scorer().score_result(None, result).scored.members is None
    failed = IdentificationResult(seconds=1.0, failure="why")
    assert Scorer().score_result(None, failed).scored is None
