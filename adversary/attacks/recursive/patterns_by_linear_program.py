"""Which units of a ReLU layer are on, where each meets an error of its own.

The gradient of a convolution below the ReLU is M R: a row of R for what stands at each position of
its input, and a column of M for the errors that meet that position, each 0 where its unit is off.
The columns of M lie in the space that the gradient's columns span, and have the signs of the
errors. Where the errors of no two positions are alike, as above a pooling by the mean whose
windows they differ by, the vectors in that space of a position's signs, with zeros where the
convolution's padding is met, are in general that column alone and its multiples: a linear program
finds it, and nothing is enumerated. As many images and positions can be told apart as the
gradient has columns.
"""

from __future__ import annotations

import numpy as np
import scipy
import torch
from torch import Tensor

RANK_TOLERANCE = 1e-7
"""Least singular value, relative to the largest, of a space of full dimension."""

PADDING_TOLERANCE = 1e-3
"""Singular value, relative to the largest, up to which a direction is zero where padding is met."""

SIGN_TOLERANCES = (1e-5, 1e-4, 1e-3, 1e-2)
"""Errors of the wrong sign that are let pass, relative to the median error, one after another."""

MAX_BINARY_DISTANCE = 0.2
"""Distance from 0 and 1 up to which units count as told, root mean square of a layer's."""


def patterns_by_linear_program(gradient: Tensor, errors: Tensor, taps: Tensor) -> Tensor | None:
    """Return the activation pattern, (B, O, P), or None if ambiguous.

    Parameters
    ----------
    gradient : Tensor
        (O, I, k), of the convolution's weights, k taps.
    errors : Tensor
        (B, O, P), at each of its outputs, were all units on.
    taps : Tensor
        (Q, k, P), one where a tap meets an input position for an output position.
    """
    batch, outputs, _ = errors.shape
    positions, count, _ = taps.shape
    rows = gradient.transpose(1, 2).flatten(0, 1)
    rank = batch * positions
    if rank > min(rows.shape):
        return None
    left, sizes, _ = torch.linalg.svd(rows, full_matrices=False)
    if not sizes[rank - 1] > RANK_TOLERANCE * sizes[0]:
        return None
    space = (left[:, :rank] * sizes[:rank]).view(outputs, count, rank)
    met, at = taps.max(2)  # each tap meets an input at one output at most
    total, weight = torch.zeros_like(errors), torch.zeros_like(errors)
    for image in range(batch):
        for position in range(positions):
            seen = met[position] > 0
            inside, outside = space[:, seen].flatten(0, 1), space[:, ~seen].flatten(0, 1)
            places = at[position, seen].expand(outputs, -1)
            error = errors[image].gather(1, places)
            column = _column(inside, outside, error.flatten())
            if column is None:
                return None
            size = error.abs()
            share = column.view_as(error) * error.sign()  # |error| times on
            total[image].scatter_add_(1, places, share)
            weight[image].scatter_add_(1, places, size)
    told = total / weight.clamp_min(torch.finfo(weight.dtype).tiny)
    on = told > 0.5
    astray = ((told - on.to(told)).square() * weight).sum() / weight.sum()
    return on if float(astray) ** 0.5 < MAX_BINARY_DISTANCE else None


def _column(inside: Tensor, outside: Tensor, error: Tensor) -> Tensor | None:
    """Return the longest vector of a space between 0 and an error, (m,), that vanishes outside.

    Parameters
    ----------
    inside, outside : Tensor
        (m, n) and (l, n), rows of a basis of the space.
    error : Tensor
        (m,).
    """
    if len(outside):
        _, sizes, right = torch.linalg.svd(outside)
        inside = inside @ right[int((sizes > PADDING_TOLERANCE * sizes[0]).sum()) :].T
    if not inside.shape[1]:
        return None
    signed = (inside * error.sign()[:, None]).cpu().numpy()
    most = error.abs().cpu().numpy()
    for tolerance in SIGN_TOLERANCES:
        slack = tolerance * float(np.median(most))
        found = scipy.optimize.linprog(
            -signed.sum(0),
            A_ub=np.concatenate([-signed, signed]),
            b_ub=np.concatenate([np.full(len(signed), slack), most + slack]),
            bounds=(None, None),
            method="highs",
        )
        if found.x is not None and found.status == 0:
            return inside @ torch.from_numpy(found.x).to(inside)
    return None
