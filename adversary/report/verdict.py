"""From figures to words: what a reconstruction means for the patient."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

CLOSE_PSNR = 20.0
"""dB from which a re-identified patient counts as visible (mean error about 10 % of the range)."""

COPY_PSNR = 30.0
"""dB from which a picture counts as the patient's, re-identified or not (about 3 %)."""

PRIOR_RDLV = 0.05
"""RDLV up to which a picture shows no more than the mean public X-ray."""


class Level(IntEnum):
    """How much a reconstruction gives away, worst last."""

    UNKNOWN = 0
    NOTHING = 1
    TRACES = 2
    IDENTIFIED = 3
    VISIBLE = 4

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


_WORDS = {
    Level.UNKNOWN: (
        "Not measured",
        "There is no true image to compare with, or no usable reconstruction.",
        "no figure can be had",
    ),
    Level.NOTHING: (
        "No more than any chest X-ray",
        "The picture shows no more than the average public X-ray does.",
        f"RDLV up to {PRIOR_RDLV:g} and not re-identified",
    ),
    Level.TRACES: (
        "Traces of the patient",
        "The picture shows more than the average public X-ray, or points to the patient "
        "without resembling the X-ray.",
        f"RDLV above {PRIOR_RDLV:g} or re-identified",
    ),
    Level.IDENTIFIED: (
        "Patient re-identifiable",
        "The picture is poor, yet it points to the right patient among the candidates.",
        f"RDLV above {PRIOR_RDLV:g} and re-identified",
    ),
    Level.VISIBLE: (
        "Patient visible",
        "The server can see this patient's X-ray.",
        f"PSNR of {CLOSE_PSNR:g} dB or more and re-identified, or {COPY_PSNR:g} dB or more",
    ),
}


def level(psnr: float | None, rdlv: float | None, reidentified: bool | None) -> Level:
    """Return the level of one reconstruction.

    Parameters
    ----------
    psnr, rdlv, reidentified
        As in :class:`adversary.evaluation.ImageScore`. Without a PSNR nothing is known. A
        high PSNR alone is no proof below ``COPY_PSNR``, for all chest X-rays look alike: the
        mean of a few reaches 19 dB.
    """
    if psnr is None:
        return Level.UNKNOWN
    if psnr >= COPY_PSNR or (reidentified and psnr >= CLOSE_PSNR):
        return Level.VISIBLE
    beyond_prior = rdlv is not None and rdlv > PRIOR_RDLV
    if reidentified and beyond_prior:
        return Level.IDENTIFIED
    if reidentified or beyond_prior:
        return Level.TRACES
    return Level.UNKNOWN if rdlv is None and reidentified is None else Level.NOTHING


def worst(levels: Iterable[Level]) -> Level:
    """Return the worst of the levels, ``UNKNOWN`` where there is none."""
    return max(levels, default=Level.UNKNOWN)
