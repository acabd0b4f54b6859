"""Which labels share an image, from the gradient of a last layer with sigmoid outputs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adversary.common.seeding import generator
from adversary.common.types import RANK_CUTOFF
from adversary.problem.head import Head

ROUNDS = 40  # of encodings and outputs in turn; they settle by about half a round
TRIES = 8
EVALUATIONS = 4000  # candidates looked at, at most: seconds for a batch of 8 and 14 labels


def multi_labels(
    head: Head,
    counts: Tensor,
    batch: int,
    *,
    noise: float,
    seed: int = 0,
) -> Tensor:
    """Return the multi-hot labels of a batch with which its gradient can be explained.

    With the right labels Y there are encodings H whose outputs P satisfy E^T H = B C G_W with E = P
    - Y (see :mod:`adversary.attacks.encgrad.encodings`; class weights change E): C equations for B
    < C unknowns, so that wrong labels leave a misfit. How often each label occurs is known; from
    all of them on the first images, labels are moved from image to image while the misfit falls,
    then from random places. Of labels that explain the gradient up to the noise, those with the
    fewest distinct images win, since images told apart in vain explain all that images not told
    apart do.

    Parameters
    ----------
    head : Head
        The last layer, of sigmoid outputs, with all of its gradient.
    counts : Tensor
        (C,) integers, how many of the images carry each label.
    batch : int
        B < C.
    noise : float
        Standard deviation of an entry of G_W.
    seed : int
        Of the random places.

    Returns
    -------
    Tensor
        (B, C) of 0 and 1, float64; the order of the images is arbitrary.
    """
    system = _System.of(head.double(), counts, batch, noise)
    best, best_cost, looked_at = torch.empty(0), torch.inf, 0
    for attempt in range(TRIES):
        labels = _initial_assignment(counts, batch, attempt, seed)
        cost = float(system.cost(labels[None]))
        while len(moved := _single_moves(labels)) and looked_at < EVALUATIONS:
            costs = system.cost(moved)
            looked_at += len(moved)
            if float(costs.min()) >= cost:
                break
            labels, cost = moved[costs.argmin()], float(costs.min())
        if cost < best_cost:
            best, best_cost = labels, cost
        if best_cost <= system.floor or looked_at >= EVALUATIONS:
            break
    return best


@dataclass(frozen=True)
class _System:
    """E^T H = B C G_W in the row space of G_W, of at most C dimensions, in float64."""

    rhs: Tensor
    weight: Tensor
    bias: Tensor
    mean_output: Tensor
    cutoff: float
    floor: float
    head: Head

    @classmethod
    def of(cls, head: Head, counts: Tensor, B: int, noise: float) -> _System:
        (G_W, G_b), (W, b), class_weights = head.gradient, head.layer, head.class_weights
        scale = B * len(G_b)
        V = torch.linalg.svd(G_W, full_matrices=False).Vh.T
        # Of outputs that are all the same, by C G_b = (1 - f) p + f w (p - 1).
        positive = counts / B * (1 if class_weights is None else class_weights.to(G_b))
        return cls(
            rhs=scale * G_W @ V,
            weight=W @ V,
            bias=b,
            mean_output=(len(G_b) * G_b + positive) / (1 - counts / B + positive),
            cutoff=noise * scale,
            floor=2 * noise * G_W.numel() ** 0.5 / float(G_W.norm()),
            head=head,
        )

    def cost(self, labels: Tensor) -> Tensor:
        """Return the relative misfit of (K, B, C) labels, (K,), and below the floor their number.

        That is, the share of distinct images, so that fewer are better.
        """
        labels = labels.to(self.rhs.device)
        P = self.mean_output.expand_as(labels)
        for _ in range(ROUNDS):
            A = self.head.errors(P, labels).mT
            H = torch.linalg.pinv(A, atol=self.cutoff, rtol=RANK_CUTOFF) @ self.rhs
            P = (H @ self.weight.T + self.bias).sigmoid()
        misfit = (self.head.errors(P, labels).mT @ H - self.rhs).norm(
            dim=(-2, -1)
        ) / self.rhs.norm()
        equal = (labels[:, :, None] == labels[:, None]).all(-1).tril(-1).any(-1)  # to one before
        distinct = (~equal).sum(-1) / labels.shape[1]
        return torch.where(misfit < self.floor, self.floor * distinct, misfit)


def _initial_assignment(counts: Tensor, batch: int, attempt: int, seed: int) -> Tensor:
    """Return (B, C) labels as often as ``counts`` says: the first images', then anyone's."""
    order = torch.arange(batch)[:, None].expand(-1, len(counts))
    if attempt:
        draw = torch.rand(batch, len(counts), generator=generator(seed, "multi-hot", attempt))
        order = draw.argsort(0).argsort(0)
    return (order < counts.cpu()).double()


def _single_moves(labels: Tensor) -> Tensor:
    """Return (B, C) labels with one label moved to another image, in every way, (K, B, C)."""
    one, zero = labels.bool(), ~labels.bool()
    pairs = (one[:, None] & zero[None, :]).nonzero()  # (K, 3): from, to, which
    moved = labels.repeat(len(pairs), 1, 1)
    index = torch.arange(len(pairs))
    moved[index, pairs[:, 0], pairs[:, 2]] = 0
    moved[index, pairs[:, 1], pairs[:, 2]] = 1
    return moved
