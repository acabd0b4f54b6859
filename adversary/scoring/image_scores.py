"""Scoring: the one place that sees both a reconstruction and the truth."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import scipy
import torch
from torch import Tensor

from adversary.common.results import Reconstruction
from adversary.common.seeding import generator
from adversary.common.truth import Truth
from adversary.priors.public import Prior
from adversary.scoring import metrics
from adversary.scoring.metrics import Lpips
from adversary.scoring.verdict import Evidence

FAILED_BELOW_PRIOR_DB = 0.2
"""dB below the mean public X-ray from which an attack counts as failed."""

FAR_BELOW_BOUND_DB = 6.0
"""dB by which a bound is far above an attack: four times its squared error."""

NEGATIVE_CORRELATION = -0.5
"""Correlation with the truth down to which a picture may count as its negative."""

MANY = 32
"""Images of an update above which structural similarity is taken in float32: four digits."""

_LEAST_DRAWS = 4  # of strangers to match a batch with

NULL_SAMPLE = 64
"""Strangers at most beside whom the structural similarity of a reconstruction is taken."""

_NULL_PIXELS = 2**19  # of all pairs of the sample: larger images and batches get a smaller one
_LEAST_SAMPLE = 4


@dataclass(frozen=True, kw_only=True)
class ImageScore:
    """How well one true image was reconstructed; None where a value cannot be had.

    Parameters
    ----------
    image : int
        Index of the true image in :class:`Truth`.
    reconstruction : int or None
        Index of its reconstruction; None where the attack gave too few.
    truth : str
        Name of the true image.
    mse, psnr, ssim, lpips, fft2d, rdlv : float or None
        See :mod:`adversary.scoring.metrics`. PSNR in dB, infinite for an exact copy.
    bound_psnr : float or None
        PSNR in dB that no attacker is expected to exceed; see :mod:`adversary.bounds.cramer_rao`.
    expected_psnr : float or None
        PSNR in dB that the attacker itself expected of the reconstruction; None where clients
        trained on blends of patients, of which it is.
    prior_psnr : float or None
        PSNR in dB of the mean public X-ray beside the true image.
    null_psnr, null_rdlv : float or None
        Of the reconstruction beside images that it did not come from, the mean over them: what any
        chest X-ray would have scored.
    reidentified : bool or None
        Whether the true patient comes first among the candidates.
    negative : bool or None
        Whether it does not, yet comes first for the picture with black and white exchanged, which
        then correlates with the truth by at least 0.5. Chance is 1/N, as of ``reidentified``.
    rank : int or None
        The true patient's place among the candidates, from 1.
    rank_chance : float or None
        Probability that as many images of the update come first by chance: each with 1/N, or where
        several were matched with what the same matching gives of strangers.
    flags : tuple of str
        Keys of :data:`adversary.report.flags.FLAGS` that the truth raises.
    label_true, label_recovered : str or None
        A class index, ``"1"``, or the entries of a multi-hot label, ``"0;1;1"``.
    """

    image: int
    reconstruction: int | None
    truth: str
    mse: float | None = None
    psnr: float | None = None
    ssim: float | None = None
    lpips: float | None = None
    fft2d: float | None = None
    rdlv: float | None = None
    bound_psnr: float | None = None
    expected_psnr: float | None = None
    prior_psnr: float | None = None
    null_psnr: float | None = None
    null_rdlv: float | None = None
    reidentified: bool | None = None
    negative: bool | None = None
    rank: int | None = None
    rank_chance: float | None = None
    flags: tuple[str, ...] = ()
    label_true: str | None = None
    label_recovered: str | None = None


def score_images(
    reconstruction: Reconstruction,
    truth: Truth,
    *,
    prior: Prior | None = None,
    candidates: Tensor | None = None,
    lpips: Lpips | None = None,
    bound_psnr: Tensor | None = None,
    oracles: Collection[str] = (),
) -> list[ImageScore]:
    """Return one score a true image, in the order of the truth.

    Parameters
    ----------
    reconstruction : Reconstruction
        B images; matched one to one with the T true images at the least squared error.
    truth : Truth
        T images of the same shape.
    prior : Prior, optional
        Its mean image is the baseline of RDLV.
    candidates : Tensor, optional
        (N, C, H, W), one image for each patient that could be meant, the true ones among
        them, in the form in which clients train on them; for re-identification. Those that are
        no truth of the update are the strangers of the null.
    lpips : Lpips, optional
        From :func:`adversary.scoring.metrics.load_lpips`.
    bound_psnr : Tensor, optional
        (T,), of the true images, from :attr:`adversary.bounds.cramer_rao.BoundResult.psnr`.
    oracles : collection of str
        What the attacker was told beyond what a server has, in words; raises a flag.

    Raises
    ------
    ValueError
        If the images, the prior or the candidates differ in shape.
    """
    images = reconstruction.images.detach().cpu()
    truths = truth.images.detach().cpu()
    _same_shape("truth", truths, "reconstruction", images)
    if prior is not None:
        _same_shape("prior", prior.mean, "truth", truths)
    if candidates is not None:
        _same_shape("candidates", candidates, "truth", truths)
    chosen = metrics.match_images(images, truths)
    matched = [index for index, row in enumerate(chosen) if row is not None]
    rows = [row for row in chosen if row is not None]
    of_truth = _of_truth(truths, prior, bound_psnr)
    if matched:
        measured = _measure(images[rows], truths[matched], prior, lpips)
        if candidates is not None:
            patients = candidates.detach().cpu()
            other = metrics.is_other(truths, patients)
            strangers = patients[other.all(0)]
            rate = _first_by_chance(images, strangers, patients)
            measured |= _identity(images[rows], truths[matched], patients, other[matched], rate)
            measured |= _null(images[rows], strangers, prior)
        for index, values in zip(matched, _by_image(measured), strict=True):
            of_truth[index] |= values
    scores = [
        ImageScore(
            image=index,
            reconstruction=row,
            truth=name,
            expected_psnr=None if truth.blends else _expected(reconstruction, row),
            label_true=_label(truth.labels[index]),
            label_recovered=None if row is None else _label(reconstruction.labels[row]),
            **of_truth[index],
        )
        for index, (name, row) in enumerate(zip(truth.names, chosen, strict=True))
    ]
    return [replace(one, flags=_flags(one, oracles)) for one in scores]


def missing_scores(reconstruction: Reconstruction) -> list[ImageScore]:
    """Return a score a reconstruction that holds what the attacker knows, where no truth is."""
    return [
        ImageScore(
            image=index,
            reconstruction=index,
            truth="",
            expected_psnr=_expected(reconstruction, index),
            label_recovered=_label(label),
        )
        for index, label in enumerate(reconstruction.labels)
    ]


def _of_truth(
    truths: Tensor, prior: Prior | None, bound_psnr: Tensor | None
) -> list[dict[str, Any]]:
    """Return the fields that need no reconstruction, a dict a true image."""
    columns = {}
    if prior is not None:
        columns["prior_psnr"] = metrics.psnr(prior.mean.cpu().expand_as(truths), truths)
    if bound_psnr is not None:
        columns["bound_psnr"] = bound_psnr
    return _by_image(columns) if columns else [{} for _ in truths]


def _measure(
    images: Tensor,
    truths: Tensor,
    prior: Prior | None,
    lpips: Lpips | None,
) -> dict[str, Tensor]:
    """Return the fields of :class:`ImageScore` that pairs give, each (B,)."""
    dtype = torch.float64 if len(images) <= MANY else torch.float32
    columns = {
        "mse": metrics.mse(images, truths),
        "psnr": metrics.psnr(images, truths),
        "ssim": metrics.ssim(images, truths, dtype=dtype),
        "fft2d": metrics.fft2d(images, truths),
    }
    if lpips is not None:
        columns["lpips"] = lpips(images, truths)
    if prior is not None:
        baseline = metrics.ssim(prior.mean.cpu().expand_as(truths), truths, dtype=dtype)
        columns["rdlv"] = metrics.rdlv(columns["ssim"], baseline)
    return columns


def _first_by_chance(images: Tensor, strangers: Tensor, candidates: Tensor) -> float:
    """Return how often a patient comes first of whom the images show nothing.

    1/N for one image. Of several, matching picks for each patient the image that is most like it,
    so that the same is done with as many strangers, drawn with a fixed seed, some times over.
    """
    by_guessing = 1 / len(candidates)
    if len(images) < 2 or len(strangers) < 2:
        return by_guessing
    draw = generator(0, "strangers")
    first = asked = 0
    for _ in range(max(_LEAST_DRAWS, NULL_SAMPLE // len(images))):
        drawn = strangers[torch.randperm(len(strangers), generator=draw)[: len(images)]]
        pairs = [(row, i) for i, row in enumerate(metrics.match_images(images, drawn))]
        rows = [row for row, _ in pairs if row is not None]
        whose = drawn[[i for row, i in pairs if row is not None]]
        if rows:
            first += int((metrics.identification_rank(images[rows], whose, candidates) == 1).sum())
            asked += len(rows)
    return max(by_guessing, first / asked) if asked else by_guessing


def _identity(
    images: Tensor, truths: Tensor, candidates: Tensor, other: Tensor, rate: float
) -> dict[str, Tensor]:
    """Return the places of the true patients by the pictures, and whether negatives tell them.

    ``rate`` is that of coming first by chance.
    """
    both, twice = torch.cat([images, 1 - images]), torch.cat([truths, truths])
    ranks = metrics.identification_rank(both, twice, candidates, torch.cat([other, other]))
    place, of_negative = ranks.chunk(2)
    opposed = metrics.correlation(images, truths) <= NEGATIVE_CORRELATION
    first = int((place == 1).sum())
    chance = float(scipy.stats.binom.sf(first - 1, len(place), rate))
    return {
        "rank": place,
        "rank_chance": torch.full(place.shape, chance, dtype=torch.float64),
        "reidentified": place == 1,
        "negative": (place > 1) & (of_negative == 1) & opposed,
    }


def _null(images: Tensor, strangers: Tensor, prior: Prior | None) -> dict[str, Tensor]:
    """Return what the images score beside strangers, each (B,); NaN where there are none.

    PSNR is the mean over all of them, RDLV over a sample drawn with a fixed seed.
    """
    null = {"null_psnr": metrics.mean_psnr(images, strangers)}
    if prior is None or not len(strangers):
        return null
    fit = _NULL_PIXELS // max(images.numel(), 1)
    size = min(NULL_SAMPLE, max(fit, _LEAST_SAMPLE))
    drawn = torch.randperm(len(strangers), generator=generator(0, "null"))[:size]
    sample = strangers[drawn]

    def likeness(image: Tensor) -> Tensor:
        return metrics.ssim(image.expand_as(sample), sample, dtype=torch.float32)

    baseline = likeness(prior.mean.cpu())
    which = metrics.numbered(images).tolist()  # often the mean image, of many patients
    beside = {
        number: metrics.rdlv(likeness(image), baseline).nanmean()
        for number, image in dict(zip(which, images, strict=True)).items()
    }
    return {**null, "null_rdlv": torch.stack([beside[number] for number in which])}


def _flags(one: ImageScore, oracles: Collection[str]) -> tuple[str, ...]:
    """Return the flags that the truth raises, in the order of ``FLAGS``."""
    psnr, prior, bound = one.psnr, one.prior_psnr, one.bound_psnr
    raised = {"oracle": bool(oracles)}
    if psnr is not None:
        raised |= {
            "bound-far-above": bound is not None and psnr + FAR_BELOW_BOUND_DB <= bound < math.inf,
            "below-mean": prior is not None and psnr < prior - FAILED_BELOW_PRIOR_DB,
            "null-as-good": not Evidence(psnr=psnr, null_psnr=one.null_psnr).beyond_null,
        }
    return tuple(name for name, here in raised.items() if here)


def _expected(reconstruction: Reconstruction, row: int | None) -> float | None:
    """Return the PSNR that the attacker expected of a reconstruction, where it says one."""
    expected = reconstruction.expected_psnr or ()
    return None if row is None or row >= len(expected) else _known(float(expected[row]))


def _by_image(columns: dict[str, Tensor]) -> list[dict[str, Any]]:
    """Return the columns as a dict an image, None where a value is not known."""
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, map(_known, row), strict=True)) for row in rows]


def _same_shape(name: str, images: Tensor, other_name: str, other: Tensor) -> None:
    if images.shape[1:] != other.shape[1:]:
        raise ValueError(
            f"{name} has images of shape {tuple(images.shape[1:])}, "
            f"{other_name} of {tuple(other.shape[1:])}; they must be the same"
        )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _label(label: Tensor) -> str:
    return ";".join(str(round(entry)) for entry in label.double().reshape(-1).tolist())
