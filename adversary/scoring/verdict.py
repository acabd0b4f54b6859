"""Severity levels of a reconstruction and a bound, and their wording.

An attack is a lower limit of what leaks, a bound an upper one. Only the upper one can say that a
patient is protected: an attack that got little says no more than that it got little.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any

from adversary.common.results import Certificate, Reconstruction

CUT_OFF_BY = ("seconds", "evaluations")
"""Ends of an attack that had not finished."""

CLOSE_PSNR = 20.0
"""dB from which a re-identified patient counts as visible (mean error about 10 % of the range)."""

COPY_PSNR = 30.0
"""dB from which a picture counts as the patient's, re-identified or not (about 3 %)."""

PRIOR_RDLV = 0.05
"""RDLV up to which a picture shows no more than the mean public X-ray."""

CHANCE_MARGIN = 1.0
"""dB above the mean public X-ray up to which a bound leaves an attacker no more than chance.

Such a bound leaves at least 80 % of the variance of X-rays unknown.
"""

PRIVATE_CEILING = 0.03
"""Largest true positive rate at 1 % false alarms that leaves an attacker little more than chance.

About what epsilon = 1 allows, the end of the tier of strong guarantees in Ponomareva et al., "How
to DP-fy ML", JAIR 2023. A test of membership bounds reconstruction too: who sees more of a patient
than that can tell who took part (Hayes, Mahloujifar and Balle, NeurIPS 2023).
"""

NULL_MARGIN = 1.0
"""dB that a picture must be nearer to its patient than to strangers, to count for anything."""

PRIOR_MARGIN = 1.0
"""dB beyond the mean public X-ray from which a picture that is no copy may show a patient."""

NAMED_BY_CHANCE = 0.05
"""Probability from which on naming as many patients of a run is put down to chance."""

LUCK = 0.1
"""Probability from which on re-identifications of an update are put down to chance."""


class Severity(IntEnum):
    """How much is given away, worst last; of what is not known, OPEN is next to the least."""

    UNKNOWN = 0
    PROTECTED = 1
    OPEN = 2
    TRACES = 3
    IDENTIFIABLE = 4
    VISIBLE = 5

    @property
    def slug(self) -> str:
        """The level in the tables."""
        return self.name.lower()

    @property
    def label(self) -> str:
        """The level in a few words."""
        return _WORDS[self][0]

    @property
    def meaning(self) -> str:
        """What it means for the patient, in a sentence."""
        return _WORDS[self][1]

    @property
    def rule(self) -> str:
        """When it is given."""
        return _WORDS[self][2]

    @property
    def settled(self) -> bool:
        """Whether a stronger attack could not make it look better or worse for the patient."""
        return self in (Severity.PROTECTED, Severity.VISIBLE)


_WORDS = {
    Severity.UNKNOWN: (
        "Not measured",
        "There is no true image to compare with, or no usable reconstruction.",
        "no figure can be had",
    ),
    Severity.PROTECTED: (
        "Protected",
        "What the update holds gives nobody more than chance: the bound, the posterior or a "
        "privacy guarantee says so, not an attack that failed.",
        f"the bound is within {CHANCE_MARGIN:g} dB of the mean public X-ray, or the attacker's "
        f"posterior is its prior and no bound is above {CLOSE_PSNR:g} dB, or the privacy account "
        f"lets no test of membership name more than {PRIVATE_CEILING:.0%} at 1 % false alarms",
    ),
    Severity.OPEN: (
        "Open",
        "The attack got little, and more may be there. This is no evidence of safety.",
        "none of the others",
    ),
    Severity.TRACES: (
        "Traces of the patient",
        "The picture shows more than the average public X-ray, or points to the patient "
        "without resembling the X-ray.",
        f"re-identified more often than by chance (p < {LUCK:g}), or RDLV above {PRIOR_RDLV:g} and "
        "beyond the null",
    ),
    Severity.IDENTIFIABLE: (
        "Patient re-identifiable",
        "The right patient can be singled out among candidates: by a poor picture, or as one who "
        "was in the training.",
        f"re-identified beyond chance and RDLV above {PRIOR_RDLV:g}, or by its negative; or named "
        f"among candidates beyond chance (p < {NAMED_BY_CHANCE:g})",
    ),
    Severity.VISIBLE: (
        "Patient visible",
        "The server can see this patient's X-ray.",
        f"PSNR of {COPY_PSNR:g} dB or more; or {CLOSE_PSNR:g} dB, {PRIOR_MARGIN:g} dB beyond the "
        "mean public X-ray, and re-identified beyond chance",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known of one image: an attack's figures, the null beside them, and upper limits.

    Parameters
    ----------
    psnr, rdlv, reidentified
        As in :class:`adversary.scoring.image_scores.ImageScore`; None where they cannot be had.
    negative : bool or None
        Whether the negative of the reconstruction is re-identified.
    rank_chance : float or None
        Probability that as many images of the update are re-identified by chance.
    prior_psnr, null_psnr : float or None
        PSNR of the mean public X-ray, and of the reconstruction beside other patients' images.
    bound_psnr : float or None
        PSNR in dB that no attacker is expected to exceed on average.
    certificate : {"proved", "open", "nothing"} or None
        What the attacker states of its reconstruction.
    ceiling : float or None
        True positive rate at 1 % false alarms that no test of one patient's membership exceeds,
        by the client's privacy account against the server.
    """

    psnr: float | None
    rdlv: float | None = None
    reidentified: bool | None = None
    negative: bool | None = None
    rank_chance: float | None = None
    prior_psnr: float | None = None
    null_psnr: float | None = None
    bound_psnr: float | None = None
    certificate: Certificate | None = None
    ceiling: float | None = None

    @classmethod
    def of(cls, figures: Mapping[str, Any]) -> Evidence:
        """Return the evidence among named figures; others are left out, missing ones are None."""
        return cls(**{field.name: figures.get(field.name) for field in fields(cls)})

    @property
    def beyond_null(self) -> bool:
        """Whether the picture is nearer to its patient than to strangers; True where unknown."""
        if self.psnr is None or self.null_psnr is None:
            return True
        return self.psnr > self.null_psnr + NULL_MARGIN

    @property
    def pointing(self) -> bool:
        """Whether the picture is re-identified, and the update's are so beyond chance."""
        return bool(self.reidentified) and (self.rank_chance is None or self.rank_chance < LUCK)

    @property
    def beyond_prior(self) -> bool:
        """Whether the picture is nearer to its patient than the mean public X-ray by a margin."""
        if self.psnr is None or self.prior_psnr is None:
            return True
        return self.psnr > self.prior_psnr + PRIOR_MARGIN

    @property
    def protected(self) -> bool:
        """Whether an upper limit says that nobody gets more than chance."""
        if self.certificate == "nothing" and (self.bound_psnr or 0.0) <= CLOSE_PSNR:
            return True
        if self.ceiling is not None and self.ceiling <= PRIVATE_CEILING:
            return True
        if self.bound_psnr is None or self.prior_psnr is None:
            return False
        return self.bound_psnr <= self.prior_psnr + CHANCE_MARGIN


def severity_of(evidence: Evidence) -> Severity:
    """Return the level of one image.

    A high PSNR alone is no proof below :data:`COPY_PSNR`, for all chest X-rays look alike: the
    mean of a few reaches 19 dB. Where nothing of the truth is known an upper limit alone gives a
    level.
    """
    psnr, rdlv = evidence.psnr, evidence.rdlv
    if psnr is None:
        return Severity.PROTECTED if evidence.protected else Severity.UNKNOWN
    if psnr >= COPY_PSNR or (psnr >= CLOSE_PSNR and evidence.pointing and evidence.beyond_prior):
        return Severity.VISIBLE
    if evidence.protected:  # whatever a picture shows beyond it is luck
        return Severity.PROTECTED
    beyond_prior = rdlv is not None and rdlv > PRIOR_RDLV and evidence.beyond_null
    if evidence.negative or (evidence.pointing and beyond_prior):
        return Severity.IDENTIFIABLE
    if evidence.pointing or beyond_prior:
        return Severity.TRACES
    return Severity.UNKNOWN if rdlv is None and evidence.reidentified is None else Severity.OPEN


def with_names(level: Severity, chance: float) -> Severity:
    """Return a level of pictures with naming: where patients can be named, at least identifiable.

    Parameters
    ----------
    level : Severity
        Of the pictures.
    chance : float
        Probability that as many patients are named by chance; 1 where nobody was looked for.
    """
    return max(level, Severity.IDENTIFIABLE) if chance < NAMED_BY_CHANCE else level


def worst_of(levels: Iterable[Severity]) -> Severity:
    """Return the worst of the levels, ``UNKNOWN`` where there is none.

    Some that are protected beside some of which nothing is known are open: what was not measured
    is not protected by what was.
    """
    found = set(levels)
    if found == {Severity.UNKNOWN, Severity.PROTECTED}:
        return Severity.OPEN
    return max(found, default=Severity.UNKNOWN)


def certificate_of(reconstruction: Reconstruction) -> Certificate | None:
    """Return what an attack states of its images: no more than ``open`` if a limit cut it off."""
    cut_off = reconstruction.stopped in CUT_OFF_BY and reconstruction.certificate is not None
    return "open" if cut_off else reconstruction.certificate


def flags_of(reconstruction: Reconstruction) -> tuple[str, ...]:
    """Return the flags that an attack raises, and that of its limit if one cut it off."""
    cut_off = ("time-limit",) if reconstruction.stopped in CUT_OFF_BY else ()
    return tuple(dict.fromkeys((*reconstruction.flags, *cut_off)))
