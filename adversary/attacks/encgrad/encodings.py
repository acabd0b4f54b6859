r"""Image encodings h_i, the inputs of the last layer, from that layer's gradient.

For softmax cross-entropy, the mean over a batch of B images,

    G_W = 1/B sum_i (p_i - y_i) h_i^T        G_b = 1/B sum_i (p_i - y_i)

with outputs p_i, one-hot labels y_i and C classes; for binary cross-entropy over C sigmoid
outputs the same with 1/(B C). Written A H = s G_W with A = (P - Y)^T, (C, B), this is linear in
the encodings H, (B, n_h), once the outputs P are known. The three methods differ in what they
put for P. Arithmetic is float64: the system divides small differences. Class weights in the loss
change A, and nothing else; see :func:`adversary.problem.losses.output_gradients`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adversary.common.seeding import generator
from adversary.common.types import RANK_CUTOFF
from adversary.problem.head import Head


@dataclass(frozen=True, kw_only=True)
class Encodings:
    """What the last layer's gradient tells of a batch.

    Parameters
    ----------
    values : Tensor
        H, (B, n_h), float64.
    outputs : Tensor
        P, (B, C), the outputs that go with them.
    rank : int
        How many encodings the observation tells apart, at most min(B, C). Below B the others
        are known only as mixtures: each takes the same value as those it is mixed with.
    rounds : int
        Iterations until the outputs stood still.
    residual : float
        ||A H - s G_W|| / ||s G_W||, 0 where encodings and outputs explain the gradient.
    """

    values: Tensor
    outputs: Tensor
    rank: int
    rounds: int
    residual: float


def oha(weight_gradient: Tensor, bias_gradient: Tensor, labels: Tensor) -> Tensor:
    """Return h_i = G_W[y_i] / G_b[y_i] (one-hot approximation, Dao and Lee 2025).

    Exact for one image. For several it takes p_i for the one-hot y_i, up to the sign, so that
    only image i speaks in row y_i; images of one label get the same encoding.

    Parameters
    ----------
    weight_gradient : Tensor
        G_W, (C, n_h).
    bias_gradient : Tensor
        G_b, (C,).
    labels : Tensor
        (B,) class indices.

    Returns
    -------
    Tensor
        (B, n_h), float64.
    """
    rows = weight_gradient.double()[labels]
    return rows / bias_gradient.double()[labels][:, None]


def gra(weight_gradient: Tensor, bias_gradient: Tensor, labels: Tensor) -> Tensor:
    """Return the encodings for outputs that are 1/C off the label (gradient relation approach).

    Dao and Lee 2025: one equation an image, its own label's row, where p_i is 1/C except that
    G_b tells p_i[y_i]. Images of one label share an equation, and its solution of least norm.

    Parameters
    ----------
    weight_gradient : Tensor
        G_W, (C, n_h).
    bias_gradient : Tensor
        G_b, (C,).
    labels : Tensor
        (B,) class indices.

    Returns
    -------
    Tensor
        (B, n_h), float64.
    """
    G_W, G_b = weight_gradient.double(), bias_gradient.double()
    C, B = len(G_b), len(labels)
    same = (labels[:, None] == labels).double()
    count = same.sum(1)
    own = (B * G_b[labels] - (B - count) / C) / count
    A = own[:, None] * same + (1 - same) / C
    return least_squares(A, B * G_W[labels])


def consistent_encodings(
    head: Head,
    targets: Tensor,
    *,
    noise: float,
    rounds: int = 50,
    tolerance: float = 1e-14,
) -> Encodings:
    """Return encodings and outputs that agree with each other and with the gradient.

    The server knows the last layer (W, b), so P = softmax(H W^T + b) follows from H. Starting from
    the mean output, which G_b tells exactly, H is solved from all C rows and P renewed, until P
    stands still. Images of equal label stay equal: :func:`refine_encodings` tells them apart.

    Parameters
    ----------
    head : Head
        The last layer, with all of its gradient.
    targets : Tensor
        Y, (B, C), one-hot or multi-hot.
    noise : float
        Standard deviation of an entry of G_W; singular values of A that are drowned by it are
        left out.
    rounds : int
        Iterations at most.
    tolerance : float
        Change of the outputs at which they stand still.
    """
    system = _HeadEquations.of(head, targets)
    P = system.mean_output().clamp(0, 1).expand_as(system.targets)
    H = torch.empty(0)
    # An error e in A H moves H by e / s along a singular vector: beyond the size of H itself,
    # that vector tells nothing.
    cutoff = noise * system.scale
    done = 0
    for done in range(1, rounds + 1):  # noqa: B007 (reported)
        H = least_squares(system.errors(P).T, system.rhs[:, :-1], cutoff)
        before, P = P, system.outputs(H)
        if float((P - before).abs().max()) < tolerance:
            break
    A = system.errors(P).T
    misfit = A @ H - system.rhs[:, :-1]
    return Encodings(
        values=H,
        outputs=P,
        rank=int((torch.linalg.svdvals(A) > max(cutoff, RANK_CUTOFF)).sum()),
        rounds=done,
        residual=float(misfit.norm() / system.rhs[:, :-1].norm()),
    )


def refine_encodings(
    head: Head,
    targets: Tensor,
    start: Encodings,
    *,
    noise: float,
    seed: int = 0,
    steps: int = 60,
    tries: int = 3,
) -> Encodings:
    """Tell images of equal label apart, by Gauss-Newton on the whole nonlinear system.

    Outputs of two images of one label differ as their encodings do, which the other rows of G_W
    show. With A of full rank the encodings lie in the row space of G_W, so the unknowns are their
    B r coordinates in its r right singular vectors above the noise, not B n_h values; what is
    drowned in noise is not pretended to be known. Levenberg-Marquardt from the consistent
    encodings, with equal ones pushed apart at random, as often as ``tries``; the best fit wins,
    and the start is kept where nothing fits better.

    Parameters are those of :func:`consistent_encodings`; ``start`` is its result.
    """
    system = _HeadEquations.of(head, targets)
    _, s, Vh = torch.linalg.svd(system.rhs[:, :-1], full_matrices=False)
    cutoff = noise * system.scale * sum(side**0.5 for side in system.weight.shape)
    V = Vh[s > cutoff].T
    r, B = V.shape[1], len(targets)
    if r <= start.rank:  # nothing beyond what the linear system told
        return start
    small = system.project(V)
    origin = start.values @ V
    spread = origin.std(0)
    best, best_cost = origin, float(small.residual(origin, noise).square().sum())
    for attempt in range(tries):
        draw = torch.randn(origin.shape, generator=generator(seed, "refine", attempt))
        M, cost = _levenberg_marquardt(
            lambda M: small.residual(M, noise), origin + spread * draw.to(origin), steps
        )
        if cost < best_cost:
            best, best_cost = M, cost
        if best_cost < 2 * system.rhs.numel() * r / system.weight.shape[1]:
            break
    if best is origin:
        return start
    P = small.outputs(best)
    misfit = system.errors(P).T @ best @ V.T - system.rhs[:, :-1]
    return Encodings(
        values=best @ V.T,
        outputs=P,
        rank=min(r, B),
        rounds=start.rounds,
        residual=float(misfit.norm() / system.rhs[:, :-1].norm()),
    )


def least_squares(A: Tensor, rhs: Tensor, cutoff: float = 0.0) -> Tensor:
    """Return the least-norm solution of A X = rhs, without singular values up to ``cutoff``.

    One factorisation for all columns of ``rhs``.
    """
    U, s, Vh = torch.linalg.svd(A, full_matrices=False)
    inverse = torch.where(s > max(cutoff, RANK_CUTOFF * float(s[0])), 1 / s, 0.0)
    return Vh.T @ (inverse[:, None] * (U.T @ rhs))


@dataclass(frozen=True)
class _HeadEquations:
    """E^T [H, 1] = s [G_W, G_b] with E = P - Y, or as class weights have it, in float64."""

    rhs: Tensor
    head: Head
    targets: Tensor
    scale: float

    @classmethod
    def of(cls, head: Head, targets: Tensor) -> _HeadEquations:
        exact = head.double()
        scale = float(head.terms(*targets.shape))
        G_W, G_b = exact.gradient
        rhs = scale * torch.cat([G_W, G_b[:, None]], dim=1)
        return cls(rhs, exact, targets.double(), scale)

    @property
    def weight(self) -> Tensor:
        return self.head.layer[0]

    def mean_output(self) -> Tensor:
        """Return the output that explains G_b if all images have it; without weights the mean."""
        zero, one = torch.zeros_like(self.targets), torch.ones_like(self.targets)
        offset = self.errors(zero).mean(0)  # E is linear in P, row by row
        return (self.rhs[:, -1] / len(zero) - offset) / (self.errors(one).mean(0) - offset)

    def errors(self, P: Tensor) -> Tensor:
        return self.head.errors(P, self.targets)

    def outputs(self, H: Tensor) -> Tensor:
        weight, bias = self.head.layer
        return self.head.outputs(H @ weight.T + bias)

    def residual(self, H: Tensor, noise: float) -> Tensor:
        ones = torch.ones_like(H[:, :1])
        A = self.errors(self.outputs(H)).T
        return (A @ torch.cat([H, ones], dim=1) - self.rhs).flatten() / (noise * self.scale)

    def project(self, V: Tensor) -> _HeadEquations:
        rhs = torch.cat([self.rhs[:, :-1] @ V, self.rhs[:, -1:]], dim=1)
        return replace(self, rhs=rhs, head=replace(self.head, weight=self.weight @ V))


def _levenberg_marquardt(
    residual: Callable[[Tensor], Tensor], x: Tensor, steps: int
) -> tuple[Tensor, float]:
    """Minimise ||residual(x)||^2 with a dense Jacobian; stop at the noise or where stuck."""
    shape, damping = x.shape, 1e-2
    r = residual(x)
    cost = float(r.square().sum())
    for _ in range(steps):
        J = torch.func.jacrev(residual, chunk_size=512)(x).reshape(len(r), -1)
        normal, gradient = J.T @ J, J.T @ r
        diagonal = normal.diagonal().clamp_min(1e-12)
        for _ in range(10):
            step = torch.linalg.solve(normal + torch.diag(damping * diagonal), -gradient)
            moved = residual(x + step.view(shape))
            if float(moved.square().sum()) < cost:
                x, r, cost = x + step.view(shape), moved, float(moved.square().sum())
                damping /= 6
                break
            damping *= 4
        else:
            break
        if cost < len(r):
            break
    return x, cost
