"""How close a reconstruction comes to the truth, and whether it gives the patient away.

Every function takes images (B, C, H, W) in [0, 1] and returns one float64 value an image, (B,).
An image with NaN or infinite pixels gives NaN; nothing here raises on odd pixel values.
"""

from __future__ import annotations

import functools
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import scipy
import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import nn

_PIXELS = (-3, -2, -1)
_GAUSSIAN_WINDOW = 11
_SMALLEST_LPIPS_SIDE = 17  # SqueezeNet's last pooling has nothing left to pool below it

CHUNK = 2**23
"""Pixels of strangers that are compared at once: 64 MiB of float64."""

COPY_MSE = 1e-15
"""Mean squared error of what counts as a copy, 150 dB: float32 tells nothing nearer."""


def mse(images: Tensor, truths: Tensor) -> Tensor:
    """Return the mean squared error over all pixels and channels, (B,), 0 is best."""
    return (images.double() - truths.double()).square().mean(_PIXELS)


def psnr(images: Tensor, truths: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio for a peak of 1, (B,) in dB; inf where identical."""
    return -10 * mse(images, truths).log10()


def ssim(images: Tensor, truths: Tensor, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return the structural similarity (Wang et al. 2004), (B,) in [-1, 1], 1 is best.

    Gaussian window of 11 pixels and sigma 1.5, K1 = 0.01, K2 = 0.03, population covariance,
    borders mirrored, mean over the whole map and all channels. An image with a side below
    11 pixels is compared with a uniform window of the largest odd size that fits. Computed in
    ``dtype``: float32 is eight times as fast and good to four digits.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure  # slow to import

    side = min(images.shape[-2:])
    small = side < _GAUSSIAN_WINDOW
    value = structural_similarity_index_measure(
        images.to(dtype),
        truths.to(dtype),
        gaussian_kernel=not small,
        kernel_size=side - 1 + side % 2 if small else _GAUSSIAN_WINDOW,
        data_range=1.0,
        reduction="none",
    )
    assert isinstance(value, Tensor)
    return value.reshape(-1).double()


def fft2d(images: Tensor, truths: Tensor) -> Tensor:
    """Return the FFT-2D similarity of Dao and Lee (2025), (B,) in [-1, 1], 1 is best.

    As their published evaluation computes it: the plain two-dimensional DFT of each channel;
    the cosine similarity of the real parts, taken over all channels and frequencies as one
    vector, and likewise of the imaginary parts; the mean of the two. The zero frequency
    dominates the real parts, so images of like brightness start near 0.5. Where a part
    vanishes from both spectra (a constant image has no imaginary part) it counts as 1, where
    it vanishes from one only, as 0.
    """
    a, b = (torch.fft.fft2(x.double()).flatten(1) for x in (images, truths))
    return (_cosine(a.real, b.real) + _cosine(a.imag, b.imag)) / 2


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    norm_a, norm_b = a.norm(dim=1), b.norm(dim=1)
    rounding = 1e-12 * a.shape[1]
    value = (a * b).sum(1) / (norm_a * norm_b)
    value = torch.where((norm_a <= rounding) | (norm_b <= rounding), 0.0, value)
    return torch.where((norm_a <= rounding) & (norm_b <= rounding), 1.0, value)


def rdlv(ssim_reconstruction: Tensor, ssim_prior: Tensor) -> Tensor:
    """Return the relative data leakage value (Hatamizadeh et al. 2023), elementwise.

    (SSIM(reconstruction, truth) - SSIM(prior, truth)) / SSIM(prior, truth): 0 where the attack
    shows no more than the mean public X-ray does. NaN where the prior's SSIM is not positive,
    since a ratio to it has no meaning.
    """
    value = (ssim_reconstruction - ssim_prior) / ssim_prior
    return torch.where(ssim_prior > 0, value, torch.nan)


def match_images(reconstructions: Tensor, truths: Tensor) -> list[int | None]:
    """Pair reconstructions with truths one to one at the least total squared error.

    Parameters
    ----------
    reconstructions : Tensor
        (B, C, H, W).
    truths : Tensor
        (T, C, H, W); T may differ from B.

    Returns
    -------
    list of int or None
        For each truth the index of its reconstruction, None where there are too few. No
        reconstruction is used twice. Non-finite ones are given away last.
    """
    a, b = (x.double().flatten(1) for x in (truths, reconstructions))
    # Direct differences: the expanded square loses the digits that tell near-copies apart.
    cost = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()
    cost = cost.nan_to_num(nan=torch.inf).clamp(max=1e6 * a.shape[1])
    chosen = dict(
        zip(*(index.tolist() for index in scipy.optimize.linear_sum_assignment(cost)), strict=True)
    )
    return [chosen.get(truth) for truth in range(len(truths))]


def is_other(truths: Tensor, candidates: Tensor) -> Tensor:
    """Return which candidates are not a truth, (T, N) bool, by a difference in any pixel."""
    number = numbered(torch.cat([truths, candidates]))
    return number[: len(truths), None] != number[len(truths) :]


def numbered(images: Tensor) -> Tensor:
    """Return a number an image, (B,) int64 from 0, which images of equal pixels alone share."""
    pixels = images.flatten(1).nan_to_num(nan=-1.0)  # that sorting has an order
    if not pixels.numel():
        return torch.zeros(len(pixels), dtype=torch.int64)
    return pixels.unique(dim=0, return_inverse=True)[1]


def correlation(images: Tensor, truths: Tensor) -> Tensor:
    """Return the Pearson correlation of the pixels of pairs, (B,); 0 where it is not defined."""
    return (_standardised(images) * _standardised(truths)).sum(1)


def identification_rank(
    reconstructions: Tensor, truths: Tensor, candidates: Tensor, other: Tensor | None = None
) -> Tensor:
    """Return the place of the true patient among candidate patients, (B,) int64 from 1.

    Candidates are ordered by the Pearson correlation of their pixels with the reconstruction.
    Correlation ignores brightness and contrast, which gradient inversion often gets wrong and
    by which nobody recognises a patient. The rank is one more than the number of *other*
    candidates that correlate at least as well as the truth does: ties count against the
    attacker, so a constant or non-finite reconstruction comes last. By chance, rank 1 has
    probability 1/N.

    Parameters
    ----------
    reconstructions, truths : Tensor
        (B, C, H, W), paired.
    candidates : Tensor
        (N, C, H, W), one image a patient, as the clients use them. Those equal to a pair's
        truth are the true patient; they need not come in any order.
    other : Tensor, optional
        (B, N), :func:`is_other` of truths and candidates where it is known already.
    """
    other = is_other(truths, candidates) if other is None else other
    r, t, c = (_standardised(x) for x in (reconstructions, truths, candidates))
    of_truth = (r * t).sum(1)
    # Rounding must not decide a tie between equal correlations.
    as_near = r @ c.T >= of_truth[:, None] - 1e-12
    return 1 + (as_near & other).sum(1)


def mean_psnr(images: Tensor, strangers: Tensor) -> Tensor:
    """Return the mean PSNR beside images that each is compared with, (B,) in dB.

    One matrix of squared errors, some :data:`CHUNK` pixels of strangers at a time; a copy of a
    stranger counts as :data:`COPY_MSE`. NaN where there is no stranger.

    Parameters
    ----------
    images : Tensor
        (B, C, H, W).
    strangers : Tensor
        (N, C, H, W), all of them beside each image.
    """
    a = images.double().flatten(1)
    total = a.new_zeros(len(a))
    for part in strangers.split(max(1, CHUNK // max(a.shape[1], 1))):
        b = part.double().flatten(1)
        squares = a.square().sum(1)[:, None] - 2 * a @ b.T + b.square().sum(1)
        total += -10 * (squares / a.shape[1]).clamp_min(COPY_MSE).log10().sum(1)
    value = total / len(strangers) if len(strangers) else total + torch.nan
    return torch.where(a.isfinite().all(1), value, torch.nan)


def _standardised(images: Tensor) -> Tensor:
    """Return the pixels with mean 0 and norm 1, (B, CHW); zeros where that cannot be had."""
    pixels = images.double().flatten(1)
    pixels = torch.where(pixels.isfinite().all(1, keepdim=True), pixels, 0.0)
    centred = pixels - pixels.mean(1, keepdim=True)
    norm = centred.norm(dim=1, keepdim=True)
    constant = norm <= 1e-12 * pixels.shape[1] ** 0.5
    return torch.where(constant, 0.0, centred / norm)


class Lpips:
    """Learned perceptual image patch similarity, SqueezeNet trunk (Zhang et al. 2018).

    Made by :func:`load_lpips`; calling it with images and truths gives (B,), 0 is best.
    Single-channel images are shown to the network in all three of its channels. Images with a
    side below 17 pixels are enlarged first, to that side, bilinearly.
    """

    def __init__(self, net: nn.Module) -> None:
        self._net = net

    @torch.no_grad()
    def __call__(self, images: Tensor, truths: Tensor) -> Tensor:
        """Return the distance of each pair, (B,) float64; NaN unless 1 or 3 channels."""
        if images.shape[1] not in (1, 3):
            return torch.full((len(images),), torch.nan, dtype=torch.float64)
        pair = [_upscaled(x.float().expand(-1, 3, -1, -1)) for x in (images, truths)]
        value: Tensor = self._net(*pair, normalize=True)
        return value.reshape(-1).double()


def _upscaled(images: Tensor) -> Tensor:
    shape = [max(side, _SMALLEST_LPIPS_SIDE) for side in images.shape[-2:]]
    if shape == list(images.shape[-2:]):
        return images
    return F.interpolate(images, size=shape, mode="bilinear", align_corners=False)


LPIPS_TRUNK = "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth"
"""Weights of LPIPS's trunk, torchvision's ``SqueezeNet1_1_Weights.DEFAULT``."""


@functools.cache
def load_lpips(seconds: float = 5.0) -> tuple[Lpips | None, str]:
    """Return the LPIPS metric, or None and the reason why it cannot be had.

    The trunk's weights come from torch's cache (``$TORCH_HOME``). Where they are not there,
    one download is tried, for ``seconds`` at most; the answer is kept for the process.
    """
    weights = Path(torch.hub.get_dir()) / "checkpoints" / LPIPS_TRUNK.rsplit("/", 1)[-1]
    if not weights.exists() and (reason := _download(LPIPS_TRUNK, weights, seconds)):
        return None, f"LPIPS: no weights at {weights} and {reason}"
    try:
        import lpips  # with torchvision, which takes seconds: not where there are no weights
    except ImportError as error:
        return None, f"LPIPS: {error}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # lpips still asks torchvision the old way
            net = lpips.LPIPS(net="squeeze", verbose=False)
    except Exception as error:  # a damaged file raises almost anything
        return None, f"LPIPS: the weights at {weights} cannot be read ({type(error).__name__})"
    return Lpips(net), ""


def _download(url: str, path: Path, seconds: float) -> str:
    """Download within ``seconds``; return the reason for failure, or nothing."""
    failure = [f"{url} did not answer within {seconds:g} s"]

    def download() -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix="b8a52dc0", progress=False)
            failure.clear()
        except Exception as error:  # told to the reader, whatever it is
            failure[:] = [f"they cannot be downloaded ({error})"]

    # A thread, because resolving a host name knows no time limit; it writes the file whole or
    # not at all, so one that is abandoned does no harm.
    thread = threading.Thread(target=download, daemon=True)
    thread.start()
    thread.join(seconds)
    return failure[0] if failure else ""
