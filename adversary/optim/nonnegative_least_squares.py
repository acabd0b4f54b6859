"""Non-negative least squares for a batch of right-hand sides."""

from __future__ import annotations

import torch
from torch import Tensor

MAX_EXCHANGES = 60
"""Exchanges at most."""

PATIENCE = 3
"""Exchanges of all that is wrong, without there being less of it, before single ones."""

SIGN_TOLERANCE = 1e-10
"""Of signs, relative to the largest value of a right-hand side."""

RIDGE = 1e-13
"""Added to the diagonal, relative to it, for supports of as many unknowns as equations."""

MEMORY_BYTES = 2**24
"""What the matrices of the right-hand sides that are solved for together may take."""


def nnls(gram: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Return x >= 0 of least x^T G x - 2 c^T x, and what each would vary by for unit noise.

    Block principal pivoting (Kim and Park, "Fast nonnegative matrix factorization: an
    active-set-like method and comparisons", SIAM Journal on Scientific Computing 33, 2011): the
    unknowns that are free and those that are zero change places, where they have the wrong sign,
    until none has.

    Parameters
    ----------
    gram : Tensor
        G = A^T A, (n, n).
    right : Tensor
        c = A^T b, (n, k).

    Returns
    -------
    Tensor
        x, (n, k).
    Tensor
        (n, k), standard deviation of each free unknown for noise of deviation 1 in b, given the
        support; of the others 0.
    """
    scale = gram.diagonal().clamp_min(torch.finfo(gram.dtype).tiny).rsqrt()
    gram, right = gram * scale * scale[:, None], (right * scale[:, None]).T
    gram = gram + RIDGE * torch.eye(len(gram)).to(gram)
    together = max(1, MEMORY_BYTES // (gram.numel() * gram.element_size()))
    parts = [_solved(gram, part) for part in right.split(together)]
    x, spread = (torch.cat(part).T * scale[:, None] for part in zip(*parts, strict=True))
    return x, spread


def _solved(gram: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Return x and its spread, (k, n), of right-hand sides in rows."""
    free = torch.cholesky_solve(right.T, torch.linalg.cholesky(gram)).T > 0
    x, spread = torch.zeros_like(right), torch.zeros_like(right)
    fewest = torch.full_like(right[:, 0], torch.inf)
    patience = torch.full_like(fewest, PATIENCE)
    left = torch.arange(len(right), device=right.device)
    for round in range(MAX_EXCHANGES):
        inside = free[left]
        factor = torch.linalg.cholesky(_restricted_to_free(gram, inside))
        found = torch.cholesky_solve((right[left] * inside)[..., None], factor)[..., 0]
        slope = found @ gram - right[left]
        least = SIGN_TOLERANCE * right[left].abs().amax(1, keepdim=True)
        wrong = torch.where(inside, found < -least, slope < -least)
        count = wrong.sum(1)
        ended = (count == 0) | (round == MAX_EXCHANGES - 1)
        x[left[ended]] = found[ended].clamp_min(0)
        inverse = torch.cholesky_inverse(factor[ended])
        spread[left[ended]] = inverse.diagonal(dim1=1, dim2=2).sqrt() * inside[ended]
        left, wrong, count = left[~ended], wrong[~ended], count[~ended]
        if not len(left):
            break
        fewer = count < fewest[left]
        fewest[left] = torch.where(fewer, count.to(fewest), fewest[left])
        patience[left] = torch.where(fewer, PATIENCE, patience[left] - 1)
        last = wrong.shape[1] - 1 - wrong.flip(1).int().argmax(1)
        one = torch.zeros_like(wrong).scatter(1, last[:, None], torch.ones_like(wrong[:, :1]))
        free[left] ^= torch.where((patience[left] >= 0)[:, None], wrong, one)
    return x, spread


def _restricted_to_free(gram: Tensor, free: Tensor) -> Tensor:
    """Return G between free unknowns, (k, n, n), and the identity elsewhere."""
    both = free[:, :, None] & free[:, None, :]
    return torch.where(both, gram, torch.eye(len(gram)).to(gram))
