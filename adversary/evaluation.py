"""Scoring: the one place that sees both a reconstruction and the truth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from adversary import metrics
from adversary.metrics import Lpips
from adversary.priors import Prior
from adversary.reconstruction import Reconstruction


@dataclass(frozen=True, kw_only=True)
class Blends:
    """What the network saw in place of the images, where the client trained on blends of them.

    Parameters
    ----------
    images : Tensor
        (K, C, H, W) in [0, 1].
    labels : Tensor
        (K, C) or (K,), soft labels.
    sources : Tensor
        (K, 2), the images that each is a blend of, as indices into those of the :class:`Truth`.
    batches : tuple of tuple of Tensor
        As of the :class:`Truth`, of blends.
    """

    images: Tensor
    labels: Tensor
    sources: Tensor
    batches: tuple[tuple[Tensor, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The images a client really used in a round; never shown to an attack.

    Parameters
    ----------
    images : Tensor
        (B, C, H, W) in [0, 1].
    labels : Tensor
        (B,) class indices, or (B, C) multi-hot for sigmoid heads.
    names : tuple of str
        One name an image (a file name or an index).
    batches : tuple of tuple of Tensor
        By client in the update, the images of each of its steps of SGD, as indices (b,) into
        ``images``; empty where nothing is known but the recipe.
    blends : Blends, optional
        What the network saw in place of the images; None where it saw those.
    """

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]
    batches: tuple[tuple[Tensor, ...], ...] = ()
    blends: Blends | None = None


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
        See :mod:`adversary.metrics`. PSNR in dB, infinite for an exact copy.
    bound_psnr : float or None
        PSNR in dB that no attacker is expected to exceed; see :mod:`adversary.bounds`.
    expected_psnr : float or None
        PSNR in dB that the attacker itself expected of the reconstruction.
    prior_psnr : float or None
        PSNR in dB of the mean public X-ray beside the true image.
    null_psnr, null_rdlv : float or None
        Of the reconstruction beside images that it did not come from, the mean over them: what any
        chest X-ray would have scored.
    reidentified : bool or None
        Whether the true patient comes first among the candidates.
    negative : bool or None
        Whether it does of the reconstruction's negative.
    rank : int or None
        The true patient's place among the candidates, from 1.
    flags : tuple of str
        Keys of :data:`adversary.flags.FLAGS` that the truth raises.
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
    flags: tuple[str, ...] = ()
    label_true: str | None = None
    label_recovered: str | None = None


def score(
    reconstruction: Reconstruction,
    truth: Truth,
    *,
    prior: Prior | None = None,
    candidates: Tensor | None = None,
    lpips: Lpips | None = None,
    bound_psnr: Tensor | None = None,
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
        them, in the form in which clients train on them; for re-identification.
    lpips : Lpips, optional
        From :func:`adversary.metrics.load_lpips`.
    bound_psnr : Tensor, optional
        (T,), of the true images, from :attr:`adversary.bounds.Bound.psnr`.

    Raises
    ------
    ValueError
        If the images, the prior or the candidates differ in shape.
    """
    images = reconstruction.images.detach().cpu()
    truths = truth.images.detach().cpu()
    _same_shape("truth", truths, "reconstruction", images)
    chosen = metrics.match(images, truths)
    matched = [index for index, found in enumerate(chosen) if found is not None]
    found = [index for index in chosen if index is not None]
    measured = _measure(images[found], truths[matched], prior, candidates, lpips) if matched else []
    values = dict(zip(matched, measured, strict=True))
    return [
        ImageScore(
            image=index,
            reconstruction=row,
            truth=name,
            bound_psnr=None if bound_psnr is None else _known(float(bound_psnr[index])),
            label_true=_label(truth.labels[index]),
            label_recovered=None if row is None else _label(reconstruction.labels[row]),
            **values.get(index, {}),
        )
        for index, (name, row) in enumerate(zip(truth.names, chosen, strict=True))
    ]


def unscored(reconstruction: Reconstruction) -> list[ImageScore]:
    """Return a score a reconstruction that holds its label and no more, where no truth is known."""
    return [
        ImageScore(image=index, reconstruction=index, truth="", label_recovered=_label(label))
        for index, label in enumerate(reconstruction.labels)
    ]


def _measure(
    images: Tensor,
    truths: Tensor,
    prior: Prior | None,
    candidates: Tensor | None,
    lpips: Lpips | None,
) -> list[dict[str, Any]]:
    """Return the fields of :class:`ImageScore` that can be measured, a dict a pair."""
    columns = {
        "mse": metrics.mse(images, truths),
        "psnr": metrics.psnr(images, truths),
        "ssim": metrics.ssim(images, truths),
        "fft2d": metrics.fft2d(images, truths),
    }
    if lpips is not None:
        columns["lpips"] = lpips(images, truths)
    if prior is not None:
        _same_shape("prior", prior.mean, "truth", truths)
        baseline = metrics.ssim(prior.mean.cpu().expand_as(truths), truths)
        columns["rdlv"] = metrics.rdlv(columns["ssim"], baseline)
    if candidates is not None:
        _same_shape("candidates", candidates, "truth", truths)
        columns["rank"] = metrics.rank(images, truths, candidates.detach().cpu())
        columns["reidentified"] = columns["rank"] == 1
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
