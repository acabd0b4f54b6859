"""What a layer was given, and the errors at its outputs, from the gradient of its weights.

The gradient is the sum over images and positions of an output's error times what stands there: it
is linear in the inputs where errors are known, with an equation for each output and tap, and linear
in the errors where inputs are, with one for each input channel and tap. There are more of either
than unknowns. So where the errors of a few outputs are mistaken, the others tell the inputs, and
these tell the few.

Inputs that a ReLU put out are not negative, and many are zero. Where there are few equations for
each unknown that leaves far less of the noise in them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adversary.optim.nonnegative_least_squares import nnls

MAX_CONDITION = 1e6
"""Of a linear system, from which on its unknowns count as not told."""

OUTLIER_RATIO = 3.0
"""Share left unexplained, relative to what is usual, from which on outputs are mistaken."""

MIN_IMPROVEMENT = 0.5
"""Factor by which that share must fall if some are left out."""

MIN_OVERDETERMINATION = 1.2
"""Equations for every unknown that must be left then; of those that may be zero, that are not."""

SIGN_FREE_OVERDETERMINATION = 3.0
"""Equations for every unknown from which on signs need not be told."""


@dataclass(frozen=True)
class LayerSolution:
    """What a layer's gradient tells.

    Parameters
    ----------
    inputs, deviation : Tensor
        (B, I, Q), and the standard deviation of each.
    errors : Tensor
        (B, O, P), at its outputs.
    left : float
        Share of the gradient that they leave unexplained, root mean square by degrees of freedom.
    """

    inputs: Tensor
    deviation: Tensor
    errors: Tensor
    left: float


def solve_layer(
    gradient: Tensor,
    errors: Tensor,
    taps: Tensor,
    *,
    doubt: Tensor | None = None,
    usual: float,
    positive: bool = False,
) -> LayerSolution | None:
    """Solve a layer's gradient for its inputs, correcting outlier errors; None if too few.

    Parameters
    ----------
    gradient : Tensor
        (O, I, k), of the layer's weights, k taps.
    errors : Tensor
        (B, O, P), at its outputs.
    taps : Tensor
        (Q, k, P), one where a tap meets an input position for an output position.
    doubt : Tensor, optional
        (B, O, P), what some errors may lack: all of it or nothing; 0 where they are sure.
    usual : float
        Share of a gradient that is left unexplained where nothing is mistaken.
    positive : bool
        Whether no input is negative.
    """
    every = torch.ones(len(gradient), dtype=torch.bool, device=gradient.device)
    doubt = torch.zeros_like(errors) if doubt is None else doubt
    rows = _rows(errors, taps)
    unknowns = len(errors) * len(taps)
    scarce = len(gradient) * taps.shape[1] < SIGN_FREE_OVERDETERMINATION * unknowns
    inputs = _positive_inputs if positive and scarce else _inputs
    first = inputs(gradient, rows, every)
    if first is None:
        return None
    sure = ~doubt.transpose(0, 1).flatten(1).any(1)
    found = first if sure.all() else inputs(gradient, rows, sure) or first
    while found.left > OUTLIER_RATIO * usual:
        largest = found.unexplained[found.kept].max()
        fewer = inputs(gradient, rows, found.kept & (found.unexplained <= largest / 2))
        if fewer is None:
            break
        found = fewer
    best = LayerSolution(first.inputs, first.deviation, errors, first.left)
    if found.left < MIN_IMPROVEMENT * first.left:
        told = errors.clone()
        told[:, ~found.kept] = _errors(gradient[~found.kept], found.inputs, taps)
        lacking = ((told - errors) / doubt > 0.5) & (doubt != 0)
        for mended in (torch.where(sure[:, None], told, errors + doubt * lacking), told):
            again = inputs(gradient, _rows(mended, taps), every)
            if again is not None and again.left < MIN_IMPROVEMENT * best.left:
                best = LayerSolution(again.inputs, again.deviation, mended, again.left)
    return best


@dataclass(frozen=True)
class _Inputs:
    """Inputs by the outputs that were ``kept``, (O,); ``unexplained`` of each output's gradient."""

    inputs: Tensor
    deviation: Tensor
    left: float
    unexplained: Tensor
    kept: Tensor


def _rows(errors: Tensor, taps: Tensor) -> Tensor:
    """Return the equations of the inputs, (O, k, B, Q)."""
    return torch.einsum("bop,qkp->okbq", errors, taps)


def _inputs(gradient: Tensor, rows: Tensor, kept: Tensor) -> _Inputs | None:
    """Return the inputs by least squares over some outputs."""
    system, known = _equations(gradient, rows, kept)
    least = 1 if kept.all() else MIN_OVERDETERMINATION
    if len(system) < least * system.shape[1]:
        return None
    q, r = torch.linalg.qr(system)
    if not _identifiable(r.T @ r):
        return None
    inverse = torch.linalg.inv(r)
    free = torch.ones_like(known[0]) * system.shape[1]
    spread = inverse.norm(dim=1)[:, None]
    return _unfold(gradient, rows, kept, inverse @ (q.T @ known), spread, free)


def _positive_inputs(gradient: Tensor, rows: Tensor, kept: Tensor) -> _Inputs | None:
    """Return the inputs by least squares over some outputs, none of them negative."""
    system, known = _equations(gradient, rows, kept)
    gram = system.T @ system
    if kept.all() and not (len(system) >= len(gram) and _identifiable(gram)):
        return None
    found, spread = nnls(gram, system.T @ known)
    free = found > 0
    count = free.sum(0)
    if not kept.all() and len(system) < MIN_OVERDETERMINATION * float(count.double().mean()):
        return None
    spread = torch.where(free, spread, (spread.sum(0) / count.clamp_min(1)))
    return _unfold(gradient, rows, kept, found, spread, count)


def _identifiable(gram: Tensor) -> bool:
    """Return whether the scaled normal matrix is well-conditioned."""
    sizes = gram.diagonal()
    if not sizes.min() > 0:
        return False
    values = torch.linalg.eigvalsh(gram * sizes.rsqrt() * sizes.rsqrt()[:, None])
    return bool(values[0] * MAX_CONDITION**2 > values[-1])


def _equations(gradient: Tensor, rows: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Return the system, (m, B Q), and right-hand sides, (m, I), of some outputs."""
    right = gradient.transpose(1, 2)
    return rows[kept].flatten(2).flatten(0, 1), right[kept].flatten(0, 1)


def _unfold(
    gradient: Tensor, rows: Tensor, kept: Tensor, found: Tensor, spread: Tensor, free: Tensor
) -> _Inputs:
    """Return inputs with their deviations, of solutions and these for unit noise, (B Q, I).

    ``free`` unknowns of each input channel, (I,), use up equations.
    """
    gaps = gradient.transpose(1, 2) - rows.flatten(2) @ found
    known = gradient[kept]
    equations = known[:, 0].numel()
    spare = (equations - free).clamp_min(1)
    noise = gaps[kept].flatten(0, 1).square().sum(0).div(spare).sqrt()

    def arranged(of: Tensor) -> Tensor:
        return of.view(rows.shape[2], -1, gradient.shape[1]).transpose(1, 2)

    return _Inputs(
        inputs=arranged(found),
        deviation=arranged(spread * noise),
        left=float(noise.norm() / known.norm()) * equations**0.5,
        unexplained=gaps.flatten(1).norm(dim=1),
        kept=kept,
    )


def _errors(gradient: Tensor, inputs: Tensor, taps: Tensor) -> Tensor:
    """Return errors, (B, O, P), by least squares over the gradient of each output, (O, I, k)."""
    met = torch.einsum("biq,qkp->ikbp", inputs, taps).flatten(0, 1).flatten(1)
    found: Tensor = torch.linalg.lstsq(met, gradient.flatten(1).T).solution
    return found.view(len(inputs), -1, len(gradient)).transpose(1, 2)
