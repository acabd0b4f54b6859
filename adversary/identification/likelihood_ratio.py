"""The best test there is of one candidate, where all else that went into an update is known.

The threat model of differential privacy: one step of DP-SGD on the others, and on the candidate or
not. The two hypotheses are then normal with one covariance and known means, and by Neyman and
Pearson no test has more power than their likelihood ratio.
"""

from __future__ import annotations

import torch
from torch import Tensor


def log_ratios(data: Tensor, others: Tensor, part: Tensor, deviation: float) -> Tensor:
    """Return the log likelihood of "in" over that of "out".

    Parameters
    ----------
    data : Tensor
        (R, P), the sums of clipped gradients with noise that were observed.
    others : Tensor
        (P,), the sum of the clipped gradients of all others.
    part : Tensor
        (P,), the candidate's clipped gradient.
    deviation : float
        Of the noise on each entry, > 0.

    Returns
    -------
    Tensor
        (R,); of unit deviation around plus or minus mu^2 / 2 when divided by
        mu = ||part|| / deviation.
    """
    return ((data - others) @ part - part.square().sum() / 2) / deviation**2


def clipped_rows(rows: Tensor, clip: float) -> Tensor:
    """Return gradients (N, P) scaled down to the L2 norm ``clip`` where they are longer."""
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows * (clip / norms.clamp_min(torch.finfo(rows.dtype).tiny)).clamp(max=1)
