"""From misfit, posterior and rivals to a certificate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from adversary.attacks.certificates.goodness import Goodness
from adversary.attacks.certificates.posterior import Posterior, prior_psnr
from adversary.common.results import Certificate
from adversary.priors.gaussian import GaussianPrior

MIN_GAIN_DB = 3.0
"""dB that the posterior must promise beyond the prior, for the update to tell clearly more."""

MAX_NULL_GAIN_DB = 1.0
"""dB that it promises at most of any image where the update tells nothing."""

PSNR_TOLERANCE_DB = 3.0
"""dB to which a proved reconstruction states its PSNR, in 99 of 100."""

MIN_COST_DIFFERENCE = 14.0
"""By how much a rival must cost more: odds of e^7, a thousand to one."""

MIN_DISTANCE_STD = 3.0
"""Distance of other images, in root mean square of the expected errors of both together."""

MAX_UNKNOWN_SHARE = 0.5
"""Share of the equations that unknowns may use up, for a fit of the rest to say anything."""


MAX_CURVATURE = 0.05
"""Of the posterior at most, for it to be normal: at .2 errors of 8 dB were seen, below .01 none."""

MAX_PRIOR_SHARE = 1 / 3
"""Of the expected squared error that the prior may decide.

The expectation then holds to :data:`PSNR_TOLERANCE_DB` of a patient who is twice as far from the
mean as public X-rays are: of four times their variance the error is at most 1 + 3/3 times as large.
"""


@dataclass(frozen=True, kw_only=True)
class Rival:
    """Another explanation of the update that was tried.

    Parameters
    ----------
    images : Tensor
        (B, C, H, W).
    labels : Tensor
        Of them.
    cost : float
        On the scale of the estimate's own: twice the negative logarithm of the posterior.
    """

    images: Tensor
    labels: Tensor
    cost: float


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What was tried beside the estimate.

    Parameters
    ----------
    equations : int
        Number of entries that the update tells.
    rivals : sequence of Rival
        All others that were found, of other labels or from other starts.
    complete : bool
        Whether every label that may be right was tried to its end, and no limit cut in.
    confirmed : bool
        Whether another start led to the same images.
    """

    equations: int
    rivals: Sequence[Rival]
    complete: bool
    confirmed: bool = False


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What the attacker states of its reconstruction.

    Parameters
    ----------
    certificate : {"proved", "open", "nothing"}
        See :data:`adversary.common.results.Certificate`.
    flags : tuple of str
        Why it is not proved: keys of :data:`adversary.report.flags.FLAGS`.
    """

    certificate: Certificate
    flags: tuple[str, ...] = ()


def certify(
    estimate: Rival,
    posterior: Posterior,
    fit: Goodness,
    prior: GaussianPrior,
    tried: Tried,
) -> Statement:
    """Return what can be stated of an estimate.

    Parameters
    ----------
    estimate : Rival
        The most probable explanation that was found.
    posterior : Posterior
        At it.
    fit : Goodness
        Of it.
    prior : GaussianPrior
        Of each image.
    tried : Tried
        What else was tried.
    """
    gain = posterior.psnr - prior_psnr(prior)
    if not fit.explained:
        return Statement(certificate="open", flags=("misfit",))
    if float(gain.max()) < MAX_NULL_GAIN_DB:
        return Statement(certificate="nothing")
    several = any(
        rival.cost < estimate.cost + MIN_COST_DIFFERENCE and _differs(estimate, rival, posterior)
        for rival in tried.rivals
    )
    several |= posterior.curvature > MAX_CURVATURE
    fitted = posterior.parameters > MAX_UNKNOWN_SHARE * tried.equations and not tried.confirmed
    if several or fitted or not tried.complete or not posterior.settled:
        return Statement(certificate="open", flags=("several-explanations",))
    if float(gain.min()) < MIN_GAIN_DB or float(posterior.spread.max()) > PSNR_TOLERANCE_DB:
        fewer = float(gain.min()) < MAX_NULL_GAIN_DB and float(gain.max()) >= MIN_GAIN_DB
        return Statement(certificate="open", flags=("fewer-told",) if fewer else ())
    if posterior.by_prior > MAX_PRIOR_SHARE:
        return Statement(certificate="open", flags=("rests-on-prior",))
    return Statement(certificate="proved")


def _differs(estimate: Rival, rival: Rival, posterior: Posterior) -> bool:
    """Return whether two explanations show other images than their errors allow."""
    apart = float((estimate.images - rival.images).square().mean())
    expected = 2 * float(posterior.variance.mean())
    return math.sqrt(apart) > MIN_DISTANCE_STD * math.sqrt(expected)
