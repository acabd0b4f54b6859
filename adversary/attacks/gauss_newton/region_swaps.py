"""Which of two images of one label a region belongs to, where a descent took it wrong.

To first order an update tells the sum of the images of one label alone. What tells them apart is of
second order in their difference, like the magnitudes of phase retrieval, and each region of it
binds the sign of its neighbours only as strongly as the difference at the border between them. So
beside the true images lie minima in which regions of them are exchanged, which no descent leaves:
every way out leads over images that agree in the region.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F

from adversary.optim.levenberg_marquardt import Iterate, LevenbergMarquardt
from adversary.optim.prior_terms import PriorTerm
from adversary.problem.residuals import Residuals

SMOOTHING_SIGMAS = (1.0, 2.0)
"""Standard deviations in pixels by which differences are smoothed before they fall into regions."""

MIN_OVERLAP = 0.5
"""Share of the pixels of two regions, of those of either, from which on they count as one."""

MAX_CANDIDATES = 3
"""Exchanges that are followed from one place."""

MAX_SWAPS = 16
"""That are made one after another at most."""

MAX_RELATIVE_COST = 0.99
"""Of the cost of a place, what a better one costs at most."""


def resolve_swaps(descent: LevenbergMarquardt[Residuals, PriorTerm], place: Iterate) -> Iterate:
    """Return the most probable place that exchanges lead to; the one given if no other is better.

    From what an exchange makes of the images a descent begins at the noise of its misfit. It is
    given up as soon as it costs more than the images that it is to replace, at the same noise.

    Parameters
    ----------
    descent : LevenbergMarquardt
        Takes the steps, from what each exchange makes of the images.
    place : Iterate
        Where a descent has ended.
    """
    equations = descent.equations

    def misfit(images: Tensor) -> float:
        return float(equations(images).square().mean())

    best = Iterate(place.images, equations(place.images), place.temperature)
    for _ in range(MAX_SWAPS):
        for one in candidate_swaps(misfit, best.images, equations.targets)[:MAX_CANDIDATES]:
            rival = _rival(descent, best, one.of(best.images))
            if rival is not None:
                place = best = rival
                break
            if descent.search.exhausted():
                return place
        else:
            break
    return place


def _rival(
    descent: LevenbergMarquardt[Residuals, PriorTerm], best: Iterate, images: Tensor
) -> Iterate | None:
    """Return where a descent from other images ends; None where that costs as much as the best."""
    penalty, wins = descent.prior_term, False

    def winning(rival: Iterate, temperature: float) -> bool:
        """Note whether a rival costs less, at the noise for which it has last been improved."""
        nonlocal wins
        wins = rival.cost(penalty, temperature) < MAX_RELATIVE_COST * best.cost(
            penalty, temperature
        )
        return wins

    residual = descent.equations(images)
    start = Iterate(images, residual, float(residual.square().mean()))
    rival = descent.minimise(start, winning)
    return rival if wins else None


@dataclass(frozen=True)
class Swap:
    """A region that two images may have exchanged.

    Parameters
    ----------
    first, second : int
        The images.
    region : Tensor
        (H, W), of bool.
    stiffness : float
        What the exchange adds to the misfit, by its squared length in pixels.
    """

    first: int
    second: int
    region: Tensor
    stiffness: float

    def of(self, images: Tensor) -> Tensor:
        """Return (B, C, H, W) with the region exchanged."""
        return with_region_swapped(images, self.first, self.second, self.region)


def with_region_swapped(images: Tensor, first: int, second: int, region: Tensor) -> Tensor:
    """Return (B, C, H, W) in which two images have exchanged the pixels of a region, (H, W)."""
    result = images.clone()
    result[first] = torch.where(region, images[second], images[first])
    result[second] = torch.where(region, images[first], images[second])
    return result


def candidate_swaps(
    misfit: Callable[[Tensor], float], images: Tensor, targets: Tensor
) -> list[Swap]:
    """Return the exchanges between images of one label, those that cost least by size first.

    Parameters
    ----------
    misfit : callable
        Mean squared residual of (B, C, H, W).
    images : Tensor
        (B, C, H, W).
    targets : Tensor
        (B, outputs).
    """
    now = misfit(images)
    found = []
    for first, second in same_label_pairs(targets):
        difference = images[first] - images[second]
        for region in (r for width in SMOOTHING_SIGMAS for r in regions(difference, width)):
            size = 2 * float((difference * region).square().sum())
            if size and not region.all():
                added = misfit(with_region_swapped(images, first, second, region)) - now
                found.append(Swap(first, second, region, added / size))
    return _without_duplicates(sorted(found, key=lambda one: one.stiffness))


def same_label_pairs(labels: Tensor) -> Iterator[tuple[int, int]]:
    """Yield the pairs of images of one label, of labels (B, ...)."""
    for first, second in combinations(range(len(labels)), 2):
        if torch.equal(labels[first], labels[second]):
            yield first, second


def regions(difference: Tensor, width: float) -> list[Tensor]:
    """Return the regions of a difference, (C, H, W), each (H, W) of bool.

    From every pixel the way up the smoothed magnitude leads to one of its maxima; the pixels of
    one maximum are a region. Borders run where the difference is small.

    Parameters
    ----------
    difference : Tensor
        (C, H, W).
    width : float
        Standard deviation of the smoothing in pixels, > 0.
    """
    magnitude = smoothed(difference, width).square().sum(0)
    height, breadth = magnitude.shape
    places = torch.arange(height * breadth, dtype=magnitude.dtype, device=magnitude.device)
    around = _neighbours(magnitude, value=-1.0).argmax(0, keepdim=True)
    up = _neighbours(places.view(height, breadth), value=0.0).gather(0, around)[0].long()
    while not torch.equal(up, up[up]):
        up = up[up]
    up = up.view(height, breadth)
    return [up == top for top in up.unique()]


def smoothed(images: Tensor, width: float) -> Tensor:
    """Return images, (C, H, W), filtered by a normal kernel, mirrored at the borders."""
    reach = min(int(3 * width) + 1, min(images.shape[-2:]) - 1)
    offsets = torch.arange(-reach, reach + 1).to(images)
    kernel = torch.exp(-0.5 * (offsets / width).square())
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    padded = F.pad(images[:, None], (reach,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(padded, kernel), kernel.transpose(2, 3))[:, 0]


def _neighbours(plane: Tensor, *, value: float) -> Tensor:
    """Return each pixel's neighbourhood of (H, W), (9, H W)."""
    return F.unfold(F.pad(plane[None, None], (1, 1, 1, 1), value=value), 3)[0]


def _without_duplicates(found: list[Swap]) -> list[Swap]:
    """Leave out exchanges of nearly the same region as an earlier one."""
    kept: list[Swap] = []
    for one in found:
        if not any(_overlaps(one, other) for other in kept):
            kept.append(one)
    return kept


def _overlaps(one: Swap, other: Swap) -> bool:
    if (one.first, one.second) != (other.first, other.second):
        return False
    both, either = one.region & other.region, one.region | other.region
    return int(both.sum()) > MIN_OVERLAP * int(either.sum())
