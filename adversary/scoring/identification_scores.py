"""What scores of candidates come to beside the truth: by patient, by update, and rounds joined."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adversary.common.truth import Truth
from adversary.identification import membership, null
from adversary.identification.ceilings import epsilon_lower, private_power
from adversary.identification.figures import auc, power
from adversary.identification.identifier import IdentificationResult
from adversary.identification.joining import joined
from adversary.identification.one_update import Identification

ALARMS = 0.01
"""False alarms at which shares are stated."""

LEVEL = 0.95
"""Confidence of what is said of a run's privacy account, in all its rows together."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CandidateScores:
    """Scores of a gallery's X-rays, with what scoring knows of them.

    Parameters
    ----------
    gallery : str
        Tells galleries apart: those of the same X-rays in the same order have the same.
    scores : Scores
        Of :class:`~adversary.identification.Identification`.
    patients : tuple of int
        (N,), whose each X-ray is: an index into ``names``.
    names : tuple of str
        Of the patients.
    members : tuple of bool, optional
        (N,), whether each X-ray was in the update; None where nobody knows.
    rate : float
        Prior probability of membership.
    seconds : float
        That it took.
    flags : tuple of str
        As there.
    """

    gallery: str
    scores: null.Scores
    patients: tuple[int, ...]
    names: tuple[str, ...]
    members: tuple[bool, ...] | None
    rate: float
    seconds: float
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class PatientScores:
    """Scores by patient: of several X-rays the likeliest.

    Parameters
    ----------
    names : tuple of str
        (n,).
    scores, p_values, posteriors : Tensor
        (n,), p-values times the number of a patient's X-rays (Bonferroni).
    log_ratios : Tensor
        (n,), of the likelihood as a member over that as another: by which patients are ranked.
    members : Tensor, optional
        (n,) bool.
    """

    names: tuple[str, ...]
    scores: Tensor
    p_values: Tensor
    posteriors: Tensor
    log_ratios: Tensor
    members: Tensor | None


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredIdentification:
    """What came of looking for candidates in one update, beside the truth.

    Parameters
    ----------
    outcome : IdentificationResult
        What the attacker gave.
    scored : CandidateScores, optional
        None where it gave nothing.
    fault : str
        What went wrong in scoring, where something did.
    """

    outcome: IdentificationResult
    scored: CandidateScores | None = None
    fault: str = ""

    @property
    def verdict(self) -> str:
        """What came of it in a few words."""
        return "" if self.scored is None else in_words(self.scored)


def candidate_scores(
    found: Identification, truth: Truth | None, patients: Mapping[str, str]
) -> CandidateScores:
    """Return the scores of one update, with who took part in it.

    Parameters
    ----------
    found : Identification
        What the attacker states.
    truth : Truth, optional
        The X-rays behind the update.
    patients : mapping of str to str
        Whose each X-ray is; one that is not named is a patient by itself.
    """
    whose = [patients.get(name, name) for name in found.names]
    names = tuple(dict.fromkeys(whose))
    place = {name: number for number, name in enumerate(names)}
    inside = None if truth is None else set(truth.names)
    return CandidateScores(
        gallery=hashlib.sha256("\0".join(found.names).encode("utf-8", "replace")).hexdigest(),
        scores=found.scores,
        patients=tuple(place[name] for name in whose),
        names=names,
        members=None if inside is None else tuple(name in inside for name in found.names),
        rate=found.rate,
        seconds=found.seconds,
        flags=found.flags,
    )


def joined_scores(rounds: Sequence[CandidateScores]) -> CandidateScores:
    """Return one client's rounds, of one gallery, as one; members are those of any of them."""
    first = rounds[0]
    inside = [one.members for one in rounds if one.members is not None]
    return CandidateScores(
        gallery=first.gallery,
        scores=joined([one.scores for one in rounds], first.rate),
        patients=first.patients,
        names=first.names,
        members=tuple(map(any, zip(*inside, strict=True))) if inside else None,
        rate=first.rate,
        seconds=sum(one.seconds for one in rounds),
        flags=tuple(dict.fromkeys(flag for one in rounds for flag in one.flags)),
    )


def by_patient(scored: CandidateScores) -> PatientScores:
    """Return scores by patient."""
    places: dict[int, list[int]] = {number: [] for number in range(len(scored.names))}
    for place, patient in enumerate(scored.patients):
        places[patient].append(place)
    said = scored.scores
    ratios = membership.gallery_log_ratios(said.values, said.expected, scored.rate)
    best = [max(own, key=lambda i: float(ratios[i])) for own in places.values()]
    times = torch.tensor([len(own) for own in places.values()], dtype=torch.float64)
    p_values = null.p_values(said.values, len(said.null))
    members = None
    if (inside := scored.members) is not None:
        members = torch.tensor([any(inside[i] for i in own) for own in places.values()])
    return PatientScores(
        names=scored.names,
        scores=said.values[best],
        p_values=(p_values[best] * times).clamp(max=1),
        posteriors=membership.probability(ratios[best], scored.rate),
        log_ratios=ratios[best],
        members=members,
    )


def figures(
    scored: CandidateScores,
    account: tuple[float, float] | None = None,
    *,
    level: float = LEVEL,
) -> dict[str, Any]:
    """Return the figures of identification.csv, by column; those of members only if known.

    Parameters
    ----------
    scored : CandidateScores
        Of one update, or of joined ones.
    account : (float, float), optional
        Epsilon and delta that are claimed of one patient's part, server included.
    level : float
        Confidence with which the account is refuted where it is.
    """
    people = by_patient(scored)
    found: dict[str, Any] = {
        "candidates": len(people.names),
        "seconds": scored.seconds,
        "flags": ";".join(scored.flags),
    }
    if people.members is None:
        return found
    members = people.members
    inside, others = people.log_ratios[members], people.log_ratios[~members]
    at_1, at_01 = power(inside, others, ALARMS), power(inside, others, ALARMS / 10)
    names = null.named(people.p_values)[members]
    found |= {
        "members": int(members.sum()),
        "auc": auc(inside, others),
        "tpr_1": at_1.rate if at_1 else None,
        "tpr_01": at_01.rate if at_01 else None,
        "named": float(names.double().mean()) if len(names) else None,
    }
    return found | (_of_account(people, members, account, level) if account else {})


def _of_account(
    people: PatientScores, members: Tensor, account: tuple[float, float], level: float
) -> dict[str, Any]:
    """Return what a privacy account allows, and what the test proves of it."""
    epsilon, delta = account
    if not math.isfinite(epsilon) or not members.any() or members.all():
        return {}
    alarmed = people.p_values <= ALARMS  # a threshold that no member's score has a part in
    return {
        "epsilon": epsilon,
        "ceiling_tpr_1": private_power(epsilon, delta, ALARMS),
        "epsilon_lower": epsilon_lower(
            *(int(alarmed[members].sum()), int(members.sum())),
            *(int(alarmed[~members].sum()), int((~members).sum())),
            delta,
            level,
        ),
    }


def in_words(scored: CandidateScores) -> str:
    """Return who can be named, in a clause."""
    found = figures(scored)
    if found.get("tpr_1") is None:
        count = int(null.named(by_patient(scored).p_values).sum())
        return f"{count} of {found['candidates']} candidates at a false discovery rate of 5 %"
    count = round(found["tpr_1"] * found["members"])
    return (
        f"{count} of {found['members']} patients named at one false alarm in a hundred "
        f"(AUC {found['auc']:.3f})"
    )
