"""Maximum-a-posteriori images of encodings, in closed form about a linearisation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from adversary.priors.smooth import smooth_covariance


def map_images(
    encode: Callable[[Tensor], Tensor],
    encodings: Tensor,
    deviation: Tensor,
    centre: Tensor,
    *,
    rounds: int = 6,
) -> tuple[Tensor, Tensor]:
    """Return the most probable images with the given encodings, and how well they explain them.

    Memory and time grow with n_h C H W for the Jacobian and n_h^3 for its factorisation, not
    with the batch. float64 throughout: the encodings' digits count.

    Parameters
    ----------
    encode : callable
        f, from (N, C, H, W) to (N, n_h), image by image.
    encodings : Tensor
        (B, n_h).
    deviation : Tensor
        (B,), standard deviation of an entry of each encoding.
    centre : Tensor
        x0, (C, H, W), the prior's mean and the place of the Jacobian.
    rounds : int
        Corrections at most.

    Returns
    -------
    images : Tensor
        (B, C, H, W), for each image the round that explains its encoding best; the centre where
        the encoder is too far from linear for any round to help.
    misfit : Tensor
        (B,), rms of (f(x) - h)/deviation; about 1 where the encoding is explained.
    """
    pixels = centre.numel()
    jacobian = torch.func.jacrev(lambda x: encode(x[None])[0], chunk_size=128)(centre)
    spread = smooth_covariance(jacobian).reshape(-1, pixels)
    J = jacobian.reshape(-1, pixels)
    eigenvalues, U = torch.linalg.eigh(J @ spread.T)
    rounding = torch.finfo(J.dtype).eps * len(J) * eigenvalues[-1]
    shrunk = eigenvalues.clamp_min(0) + rounding + deviation[:, None].square()

    moves = torch.zeros(len(encodings), pixels).to(J)
    best = moves
    misfit = torch.full_like(deviation, torch.inf)
    for _ in range(rounds + 1):
        missing = encodings - encode(centre + moves.view(-1, *centre.shape))
        rms = (missing / deviation[:, None]).square().mean(1).sqrt()
        better = rms < misfit  # False for NaN
        best = torch.where(better[:, None], moves, best)
        misfit = torch.where(better, rms, misfit)
        if not bool(better.any()):
            break
        moves = (((missing + moves @ J.T) @ U / shrunk) @ U.T) @ spread
    return centre + best.view(-1, *centre.shape), misfit
