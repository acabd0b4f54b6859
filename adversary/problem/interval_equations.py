"""An update whose entries are known to lie in intervals, as equations in the pixels.

Where levels or signs are sent in place of values (:class:`~adversary.observation.channel.Interval`)
the noise proper, of float32's rounding, is far finer than what the intervals leave open of the
images. A likelihood with that noise is flat but for cliffs, on which no step can be judged. So the
noise of an entry is taken as large as what the images' own uncertainty leaves of it
(:func:`self_consistent`), in which form intervals are weighed as in approximate message passing
(Rangan 2011, "Generalized approximate message passing"); where images do not explain the update,
as large as the misfit (:meth:`IntervalEquations.noise_factor`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from adversary.observation.mean_gradient import rounding_noise, total_step_size
from adversary.priors.gaussian import GaussianPrior
from adversary.problem.interval_likelihood import (
    expected_information,
    information,
    log_probability,
    score,
)
from adversary.problem.problem import FLOAT32_GRADIENT_ERROR, Problem
from adversary.problem.residuals import COLUMNS_PER_CHUNK, residuals

MEMORY_BYTES = 2 * 2**30
"""What the Jacobian may take; more entries than fit are sampled."""

MAX_OPERATIONS, MIN_ENTRIES_PER_PIXEL = 2e11, 24
"""Multiplications of one normal matrix, above which entries are sampled, and how many at least."""

MIN_INFORMATION = 1e-6
"""Of an entry, in units of its noise, below which it is left out."""

FACTORS = (1e-8, 1e4)
"""Between which factors of the noise the likeliest is sought."""

SEARCH_POINTS, SEARCH_ROUNDS = 9, 5
"""Of that search, and how often it is repeated about the best point."""

MAX_FALL = 0.3
"""Factor by which the noise falls at most from one round of :func:`self_consistent` to the next."""

FIXED_POINT_ROUNDS, FIXED_POINT_TOLERANCE = 20, 0.03
"""Of :func:`self_consistent`, and the relative change of the variance at which it ends."""


def gradient_intervals(problem: Problem) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the limits of the observed gradient's entries by array, in float64.

    Of what the channel tells of returned minus sent weights: the step and weight decay are taken
    off, as :func:`~adversary.observation.mean_gradient.mean_gradient` does.
    """
    seen = problem.observation
    found = {}
    for name, interval in problem.threat.channel.intervals.items():
        if name not in problem.gradient:
            continue
        lower, upper = interval.lower.double(), interval.upper.double()
        if seen.recipe.update != "gradient":
            scale, decay = total_step_size(seen), seen.recipe.weight_decay
            pull = decay * seen.sent[name].double()
            lower, upper = -upper / scale - pull, -lower / scale - pull
        found[name] = lower.to(problem.device), upper.to(problem.device)
    return found


def has_intervals(problem: Problem) -> bool:
    """Return whether intervals are all that is told of every observed array."""
    return problem.gradient.keys() <= problem.threat.channel.intervals.keys()


@dataclass(frozen=True)
class Distances:
    """How far the limits of entries lie from what images would make of them, (m,) each."""

    lower: Tensor
    upper: Tensor

    @property
    def excess(self) -> Tensor:
        """By how much each entry lies beyond its limits, (m,), >= 0."""
        return self.lower.maximum(-self.upper).clamp_min(0)

    def part(self, entries: slice) -> Distances:
        """Return those of some entries."""
        return Distances(self.lower[entries], self.upper[entries])

    def folded(self) -> Distances:
        """Return those of entries mirrored at their limits until they lie within."""
        width = self.upper - self.lower
        away = torch.where(self.lower.isinf(), -self.upper, self.lower).abs()  # of a half-line
        turn = torch.remainder(-self.lower, 2 * width.clamp_min(1e-300))
        inside = torch.minimum(turn, 2 * width - turn)
        bounded, value = torch.isfinite(width), width == 0
        lower = torch.where(self.lower.isinf(), self.lower, -away)
        upper = torch.where(self.upper.isinf(), self.upper, away)
        lower, upper = (
            torch.where(bounded, -inside, lower),
            torch.where(bounded, width - inside, upper),
        )
        return Distances(
            torch.where(value, self.lower, lower), torch.where(value, self.upper, upper)
        )

    def shifted(self, by: Tensor) -> Distances:
        """Return those of entries that are larger by (m,)."""
        return Distances(self.lower - by, self.upper - by)

    def over(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return them in standard deviations of the noise."""
        return self.lower / noise, self.upper / noise

    def slope(self, noise: Tensor) -> Tensor:
        """Return the derivative of the log-likelihood in each entry, (m,)."""
        return score(*self.over(noise)) / noise

    def weights(self, noise: Tensor) -> Tensor:
        """Return its negative second derivative, (m,)."""
        return information(*self.over(noise)) / noise.square()

    def expected_weights(self, noise: Tensor) -> Tensor:
        """Return that which estimates as far off as the noise have on average, (m,)."""
        return expected_information(*self.over(noise)) / noise.square()


class IntervalEquations:
    """The limits of an update's entries, and the entries that images would make.

    Parameters
    ----------
    problem : Problem
        In float64; of a channel that tells intervals.
    targets : Tensor
        (B, outputs).
    seed : int
        Of the sample, where there are more entries than memory allows.

    Attributes
    ----------
    floor : Tensor
        (m,), standard deviation of rounding: the least noise.
    """

    def __init__(self, problem: Problem, targets: Tensor, seed: int = 0) -> None:
        self._residuals = residuals(problem, targets, _entries_per_pixel(problem), seed)
        limits = gradient_intervals(problem)
        self.lower = self._residuals.picked({n: limits[n][0] for n in limits})
        self.upper = self._residuals.picked({n: limits[n][1] for n in limits})
        levels = [rounding_level(problem, name) for name in self._residuals.picks]
        counts = self._residuals.counts
        self.floor = self.lower.new_tensor(levels).repeat_interleave(counts)
        self._counts = counts.tolist()

    def __len__(self) -> int:
        """Return m, the number of entries."""
        return len(self.lower)

    def distances(self, images: Tensor) -> Distances:
        """Return where the limits lie from the update that images would make."""
        with torch.no_grad():
            made = self._residuals.predicted(images)
        return Distances(self.lower - made, self.upper - made)

    def rows(self, images: Tensor) -> Tensor:
        """Return the transposed Jacobian of the entries, (n, m), in float32."""
        single = self._residuals.single()
        return single.rows(images.float(), COLUMNS_PER_CHUNK).mul_(single.scale)

    def misfit(self, images: Tensor) -> float:
        """Return S, what squared residuals of additive noise would come to in the place of limits.

        N times the likeliest variance of the noise, in units of that of rounding, at least 1: of
        values that is their sum of squares. The geometric mean over arrays, by their entries, in
        which it makes no difference how well the rounding of each is known.
        """
        seen, first, logarithm = self.distances(images), 0, 0.0
        for count in self._counts:
            part = slice(first, first + count)
            logarithm += count * math.log(_likeliest_ratio(seen.part(part), self.floor[part]))
            first += count
        return len(self) * math.exp(2 * logarithm / len(self))


def _likeliest_ratio(distances: Distances, floor: Tensor) -> float:
    """Return the likeliest noise of an array in units of rounding, at least 1."""
    nearest = distances.lower.abs().minimum(distances.upper.abs())
    nearest = nearest[torch.isfinite(nearest)]
    size = max(float((nearest / floor[0]).max()) if len(nearest) else 1.0, 1.0)
    return max(1.0, size * likeliest_factor(distances, size * floor))


def _entries_per_pixel(problem: Problem) -> float:
    pixels = math.prod(problem.shape)
    affordable = max(MAX_OPERATIONS / pixels**3, MIN_ENTRIES_PER_PIXEL)
    return min(affordable, MEMORY_BYTES / (4 * pixels**2))


def rounding_level(problem: Problem, name: str) -> float:
    """Return the standard deviation of rounding in an array that was not observed itself."""
    size = float(problem.gradient[name].abs().max())
    client = FLOAT32_GRADIENT_ERROR * size
    return max(math.hypot(rounding_noise(problem.observation, name), client), 1e-30)


def likeliest_factor(distances: Distances, noise: Tensor) -> float:
    """Return the factor of a noise, (m,), within :data:`FACTORS`, that is likeliest."""
    values = distances.lower == distances.upper
    told = int(values.sum())
    low, high = (math.log(f) for f in FACTORS)
    for _ in range(SEARCH_ROUNDS):
        points = torch.linspace(low, high, SEARCH_POINTS).tolist()
        costs = [
            told * point - float(log_probability(*distances.over(noise * math.exp(point))).sum())
            for point in points
        ]
        best = min(range(len(points)), key=costs.__getitem__)
        low, high = points[max(best - 1, 0)], points[min(best + 1, len(points) - 1)]
    return math.exp(points[best])


def precision_of(rows: Tensor, weights: Tensor, prior: GaussianPrior) -> Tensor:
    """Return J^T W J + P of images with that prior each, (n, n).

    Parameters
    ----------
    rows : Tensor
        (n, m), J transposed.
    weights : Tensor
        (m,), the diagonal of W, >= 0.
    prior : GaussianPrior
        Of an image.
    """
    active = weights > 0
    scaled = rows[:, active] * weights[active].sqrt().to(rows)
    found = (scaled @ scaled.T).to(weights)
    precision, size = prior.precision(), prior.size
    for i in range(0, len(found), size):
        found[i : i + size, i : i + size] += precision
    return found


def prior_noise(rows: Tensor, floor: Tensor, prior: GaussianPrior) -> Tensor:
    """Return the deviation that the prior and rounding leave of each entry, (m,)."""
    precision = precision_of(rows, torch.zeros_like(floor), prior)
    return (variance_of(rows, torch.linalg.cholesky(precision)) + floor.square()).sqrt()


def variance_of(rows: Tensor, factor: Tensor) -> Tensor:
    """Return the variance of each entry, diag(J C J^T), (m,), given Cholesky's factor of C^-1."""
    root = torch.linalg.solve_triangular(factor, torch.eye(len(factor)).to(factor), upper=False)
    return (root.to(rows) @ rows).square().sum(0).to(factor)


def self_consistent(
    rows: Tensor,
    distances: Distances,
    noise: Tensor,
    floor: Tensor,
    prior: GaussianPrior,
    share: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Return the posterior precision H, (n, n), and the noise that its own uncertainty makes.

    The fixed point of sigma_i^2 = share (J C J^T)_ii + floor_i^2 with C = H^-1,
    H = J^T diag(w(sigma) / sigma^2) J + P and w the :func:`expected information
    <adversary.problem.interval_likelihood.expected_information>`, from above.

    Parameters
    ----------
    rows : Tensor
        (n, m), the transposed Jacobian.
    distances : Distances
        Of limits that hold the entries: at the truth, or at a draw of the posterior.
    noise : Tensor
        (m,), to begin with; at least that of the fixed point.
    floor : Tensor
        (m,), the least noise.
    prior : GaussianPrior
        Of each image.
    share : float
        Of the uncertainty that counts as noise.

    Raises
    ------
    ValueError
        If H is singular in float64.
    """
    noise, before = noise.clone(), math.inf
    for _ in range(FIXED_POINT_ROUNDS):
        weights = distances.expected_weights(noise)
        active = weights * noise.square() > MIN_INFORMATION
        weights = torch.where(active, weights, 0.0)
        precision = precision_of(rows, weights, prior)
        factor, failed = torch.linalg.cholesky_ex(precision)
        if int(failed):
            raise ValueError("the posterior precision is singular")
        level = float(torch.cholesky_inverse(factor).diagonal().sum())
        if abs(before / level - 1) < FIXED_POINT_TOLERANCE:
            break
        before = level
        variance = share * variance_of(rows[:, active], factor) + floor[active].square()
        noise[active] = variance.sqrt().maximum(MAX_FALL * noise[active])
    return precision, noise
