"""How far the parts of images are off, because the path of local training is not known.

The mean of rehearsals stands for the client's own path. How much an image's part differs between
the paths of rehearsals says how much it differs between their mean and the client's. What differs
in the same way for all images moves the update as a whole; the rest is noise of each image's own.
How much of it is left in an update, where images of one batch err alike, is seen in a rehearsal,
of which it is known who was in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from adversary.common.seeding import generator
from adversary.identification.evidence import Update, along, features, read
from adversary.identification.regression import left_out
from adversary.identification.rehearsal import Rehearsal
from adversary.identification.views import Examples, Views
from adversary.observation.channel import Channel
from adversary.observation.observation import Observation

EXAMPLES = 16
"""Public X-rays of which parts are compared."""

CAUTION = 3.0
"""Factor on the variance that paths show, at least: four are few."""

MAX_REHEARSED = 100
"""Images of a rehearsal in which it is looked for how much is left: more would take as long as the
candidates."""

LEAST = 1e-5
"""Variance in an equation over the mean square norm of an image's part, at least: the accuracy of
parts and of sums of them."""


@dataclass(frozen=True, eq=False)
class PathUncertainty:
    """How far the images of an update together may be off.

    Parameters
    ----------
    variance : Tensor
        (P,), of each equation, from the images one by one; the same within an array.
    shared : Tensor
        (R, P), standard deviations of what moves all images alike.
    """

    variance: Tensor
    shared: Tensor

    def scaled(self, factor: Tensor) -> PathUncertainty:
        """Return that of equations times a factor, (P,)."""
        return PathUncertainty(self.variance * factor.square(), self.shared * factor)

    def misfit(self, rows: Tensor, least: float = LEAST) -> Tensor:
        """Return the variance over the mean square norm of images' parts (1 + D, N, P), (P,)."""
        return (self.variance / rows[0].square().sum(1).mean()).clamp_min(least)


def path_uncertainty(
    model: nn.Module,
    update: Update,
    observation: Observation,
    channel: Channel,
    rehearsals: Sequence[Rehearsal],
    examples: Examples,
    *,
    seed: int,
    views: Views,
    kept: int,
) -> PathUncertainty:
    """Return how far the images of an update may be off in its equations.

    Parameters
    ----------
    model, update, observation, channel, views
        As of :func:`~adversary.identification.evidence.features`.
    rehearsals : sequence of Rehearsal
        At least two.
    examples : tuple of Tensor
        Public images and targets, at least two.
    seed : int
        Of what is drawn, the same on each path.
    kept : int
        Directions in which images' parts may change along the path: no error.
    """

    def parts(of: Update) -> Tensor:
        draws = generator(seed, "path uncertainty")
        return features(*(model, of, *examples, observation, channel), generator=draws, views=views)

    paths, count = len(rehearsals), len(examples[0])
    alone = torch.stack([
        parts(along(update, model, observation, own)).sum(1) for own in range(paths)
    ])  # fmt: skip
    apart = alone - alone[0]  # to the bit where all agree
    apart = apart - apart.mean(0)
    together = apart.mean(1)
    single = (apart - together[:, None]).square().sum((0, 1)) / (count - 1)
    mean = parts(update)
    spread = (mean.shape[1] * update.epochs) ** -0.5
    along_path = left_out(mean, spread, kept).square().sum(1).mean(0)
    # The mean of rehearsals and the client's path each lie off the mean of all paths.
    off = (1 + 1 / paths) / update.bridge.freedom
    variance = update.images * _by_array(off * single + along_path, update)
    factor = CAUTION
    if len(rehearsals[0].examples[0]) <= MAX_REHEARSED and not update.layers:
        others = (alone[1:] - alone[1:].mean(0)).mean(1)
        left = _left_of_one(*(model, update, observation, channel), rehearsals, views, seed)
        factor = max(factor, _excess(left, variance / update.images, others))
    return PathUncertainty(factor * variance, math.sqrt(off) * update.images * together)


def _left_of_one(
    model: nn.Module,
    update: Update,
    observation: Observation,
    channel: Channel,
    rehearsals: Sequence[Rehearsal],
    views: Views,
    seed: int,
) -> Tensor:
    """Return what the first rehearsal's own images leave of it by the path of the others, (P,).

    In units in which each image's part is that of an image of ``update``, over the root of their
    number; an image that was drawn several times errs as often in the same way.
    """
    first, draws = rehearsals[0], generator(seed, "left out")
    images, targets = first.examples
    seen = replace(
        observation,
        returned={name: first.weights[-1][name] for name in observation.returned},
        num_examples=len(images),
        members={},
        view="client",
    )
    known = Channel(example_clip=channel.example_clip, observed=channel.observed)
    own = read(model, seen, known, rehearsals[1:], most=1, generator=draws)
    own = replace(own, entries=update.entries)
    if channel.transform is not None:
        views = Views()  # they are as the network saw them
    left = own.data - features(
        *(model, own, images, targets, seen, known), generator=draws, views=views
    ).sum((0, 1))
    _, times = images.flatten(1).unique(dim=0, return_counts=True)
    return left * len(images) / float(times.double().norm()) / update.images


def _excess(left: Tensor, variance: Tensor, shared: Tensor) -> float:
    """Return how much is left beside what is shared (R, P), in units of variances (P,)."""
    weights = variance.clamp_min(1e-300).rsqrt() * (variance > 0)
    basis = torch.linalg.qr((shared * weights).T.double()).Q
    white = (left * weights).double()
    rest = white - basis @ (basis.T @ white)
    return float(rest.square().sum()) / max(1, int((variance > 0).sum()))


def _by_array(values: Tensor, update: Update) -> Tensor:
    """Return the mean over each array in place of its entries, (P,)."""
    arrays = values.split(list(update.sizes.values()))
    return torch.cat([one.mean().expand(len(one)) for one in arrays])
