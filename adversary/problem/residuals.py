"""The observed update as equations in the pixels, in units of its own noise."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Collection, Iterator, Sequence

import torch
from torch import Tensor
from torch.func import jvp, vjp, vmap
from torch.nn.modules.batchnorm import _BatchNorm

from adversary.common.seeding import generator
from adversary.observation.mean_gradient import total_step_size
from adversary.problem.problem import Problem
from adversary.problem.update_models import assumed_batches, trained_weights, unrolled

COLUMNS_PER_CHUNK = 64
"""Columns of a Jacobian worked out together: on a CPU more of them only fall out of its cache."""

MOVED_BYTES = 2**30
"""What the weights may take that pixels worked out together move, of several local steps."""

MAX_WASTED_RATIO = 16
"""Entries of arrays that are differentiated for one that is matched, roughly at most."""

CALIBRATION_POINTS = 4
"""Candidates at which rounding is measured."""

CURVATURE_STEP = 0.1
"""Of a step, how far to look for its curvature (Transtrum and Sethna 2012, section 2.3)."""

CALIBRATION_JITTER = 0.01
"""Of these candidates, in grey levels from 0 to 1: each rounds in another way."""


Function = Callable[[Tensor], Tensor]
Mix = Callable[[Tensor], Tensor]


class Residuals:
    """x -> (g(x) - g*)/sigma on the matched entries of the update, (m,), of (B, C, H, W).

    Several local steps of one client are unrolled; see
    :func:`adversary.problem.update_models.unrolled`.

    Parameters
    ----------
    problem : Problem
        What the attacker knows; float64, as the last digits count.
    targets : Tensor
        (B, outputs).
    picks : dict of str to Tensor
        Entries to match of each flattened array.
    sigma : dict of str to float, optional
        Standard deviation of an entry of each array; by default the problem's.

    Attributes
    ----------
    sigma : dict of str to float
        Standard deviation of an entry of each array.
    counts : Tensor
        Number of matched entries of each array; they follow each other in this order.
    """

    def __init__(
        self,
        problem: Problem,
        targets: Tensor,
        picks: dict[str, Tensor],
        sigma: dict[str, float] | None = None,
    ) -> None:
        self.problem = problem
        self.targets = targets
        self.picks = picks
        self.sigma = sigma or {n: problem.sigma(n) for n in picks}
        seen = problem.observation
        self.unrolled = seen.steps > 1 and seen.view == "client"
        self.counts = torch.tensor([len(i) for i in picks.values()], device=problem.device)
        self._differentiated = problem if self._whole else _of_arrays(problem, picks)
        self._weights = self._differentiated.parameters
        self._wanted = self._picked(problem.gradient)
        each = [self.sigma[n] for n in picks]
        self._sigma = self._wanted.new_tensor(each).repeat_interleave(self.counts)

    def __call__(self, images: Tensor) -> Tensor:
        """Return the residuals at candidate images, (m,)."""
        return (self._model(images, self.targets) - self._wanted) / self._sigma

    def __len__(self) -> int:
        """Return m, the number of equations."""
        return len(self._wanted)

    @property
    def scale(self) -> Tensor:
        """Standard deviation of each matched entry, (m,)."""
        return self._sigma

    def predicted(self, images: Tensor) -> Tensor:
        """Return the matched entries of the update that images would make, (m,)."""
        return self._model(images, self.targets)

    def picked(self, arrays: dict[str, Tensor]) -> Tensor:
        """Return the matched entries of arrays, (m,)."""
        return self._picked(arrays)

    @property
    def separable(self) -> bool:
        """Whether every image adds its own share to the update, whatever the others are."""
        return not self.unrolled and separable(self.problem)

    @property
    def _whole(self) -> bool:
        """Whether an entry of the update depends on the gradient of other arrays than its own."""
        channel = self.problem.threat.channel
        return self.unrolled or math.isfinite(min(channel.clip, channel.example_clip))

    def calibrated(
        self,
        images: Tensor,
        seed: int = 0,
        client: Problem | None = None,
        *,
        points: int = CALIBRATION_POINTS,
    ) -> Residuals:
        """Return the residuals in units of the error that the model shows at candidate images.

        A general level of rounding is wrong where sums cancel, as those of images with different
        labels do. What the client works out of candidates, in float32, beside what is expected
        here in float64 tells the level of its own arithmetic and, where another model stands for
        the client's, of what that one leaves unexplained. To it the noise of the way is added.

        Parameters
        ----------
        images : Tensor
            (B, C, H, W), near the true ones.
        seed : int
            Of the candidates around them.
        client : Problem, optional
            Of the model that the client has; by default the residuals' own.
        points : int
            Candidates at which to measure.
        """
        drawn = self._arithmetic(images, points, seed, client)
        squares = [(found - exact).square() for found, exact in drawn]
        parts = torch.stack(squares).mean(0).split(self.counts.tolist())
        sigma = {
            n: max(math.hypot(self.problem.noise(n), float(part.mean()) ** 0.5), 1e-30)
            for n, part in zip(self.picks, parts, strict=True)
        }
        return Residuals(self.problem, self.targets, self.picks, sigma)

    def _arithmetic(
        self, images: Tensor, count: int, seed: int, client: Problem | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield what the client works out in float32 of candidates, and what is right, (m,)."""
        client = (client or self.problem).to(torch.float32)
        low = Residuals(client, self.targets.float(), self.picks)
        for draw in range(count):
            noise = torch.randn(images.shape, generator=generator(seed, "calibrate", draw))
            rounded = (images + CALIBRATION_JITTER * noise.to(images)).float()
            found = low._model(rounded, low.targets).double()
            yield found, self._model(rounded.double(), self.targets)

    def errors(self, images: Tensor, count: int, seed: int = 0) -> Iterator[Tensor]:
        """Yield simulated errors of the update, (m,) each, in standard deviations.

        Of the client's float32 arithmetic, of the weights that it returns, and of the noise that
        the channel adds.

        Parameters
        ----------
        images : Tensor
            (B, C, H, W), near the true ones.
        count : int
            How many.
        seed : int
            Of the candidates around the images, and of the noise.
        """
        seen = self.problem.observation
        scale, decay = total_step_size(seen), seen.recipe.weight_decay
        sent = self._picked({n: seen.sent[n].to(self.problem.device).double() for n in self.picks})
        channel = self.problem.threat.channel.noise
        level = torch.tensor([channel.get(name, 0.0) / scale for name in self.picks])
        added = level.repeat_interleave(self.counts.cpu()).to(self._sigma)
        draw = generator(seed, "noise of the channel")
        for found, exact in self._arithmetic(images, count, seed):
            if seen.recipe.update == "weights":
                returned = (sent - scale * (found + decay * sent)).float().double()
                found = (sent - returned) / scale - decay * sent
            noise = torch.randn(len(added), generator=draw, dtype=torch.float64).to(added)
            yield (found - exact + added * noise) / self._sigma

    def noise_is_known(self, name: str, times: float) -> bool:
        """Return whether the channel's noise on an array is so many times all other noise."""
        step = total_step_size(self.problem.observation)
        added = self.problem.threat.channel.noise.get(name, 0.0) / step
        return added**2 >= times**2 * max(self.sigma[name] ** 2 - added**2, 0.0) and added > 0

    def completed(self) -> Residuals:
        """Return the residuals over all visible entries of the selected arrays.

        Other than further arrays these entries cost no further derivatives.
        """
        picks = {n: _visible_entries(self.problem, n) for n in self.picks}
        return Residuals(self.problem, self.targets, picks)

    def single(self) -> Residuals:
        """Return the same equations, worked out in float32."""
        low = self.problem.to(torch.float32)
        return Residuals(low, self.targets.float(), self.picks, self.sigma)

    def rows(
        self, images: Tensor, chunk: int = COLUMNS_PER_CHUNK, mix: Mix | None = None
    ) -> Tensor:
        """Return the transposed Jacobian at images, (n, m): a row a pixel.

        Forward over reverse mode. Where images do not depend on each other a pixel costs the
        gradient of its own image instead of that of the batch; of several local steps, those
        from the first on that its image is used in.

        Parameters
        ----------
        images : Tensor
            (B, C, H, W).
        chunk : int
            Pixels to work out together.
        mix : callable, optional
            Linear map from (m,) to (k,); the Jacobian is then that of mixed residuals, (n, k).
        """
        found = []
        for index in range(len(images)):
            of_image, part = self._of_image(images, index, chunk)
            whole = (lambda x, of=of_image: mix(of(x))) if mix else of_image
            found.append(jacobian(whole, images[index : index + 1], part).T)
        return torch.cat(found)

    def along(
        self, images: Tensor, index: int, directions: Tensor, chunk: int = COLUMNS_PER_CHUNK
    ) -> Tensor:
        """Return the derivatives along directions, (k, C H W), of one of the images, (k, m)."""
        of_image, part = self._of_image(images, index, chunk)
        image = images[index : index + 1]
        tangents = directions.view(-1, *image.shape)
        push = vmap(lambda tangent: jvp(of_image, (image,), (tangent,))[1])
        return torch.cat([push(some) for some in tangents.split(part)])

    def _of_image(self, images: Tensor, index: int, chunk: int) -> tuple[Function, int]:
        """Return the residuals, but for a constant, as a function of one image, (1, C, H, W).

        And how many directions to send through it together, for the memory of ``chunk`` images.
        """
        if self.separable:
            target = self.targets[index : index + 1]
            scale = len(images) * self._sigma
            return lambda image: self._model(image, target) / scale, chunk

        def among(image: Tensor, batch: Sequence[int]) -> Tensor:
            return torch.cat([image if i == index else images[i : i + 1] for i in batch])

        if not self.unrolled:
            every = range(len(images))
            return lambda image: self(among(image, every)), max(1, chunk // len(images))
        batches = assumed_batches(self.problem.observation)
        size = sum(w.numel() * w.element_size() for w in self._weights.values())

        def after(image: Tensor) -> Tensor:
            steps = [(among(image, b.tolist()), self.targets[b]) for b in batches]
            return self._picked(trained_weights(self.problem, self._weights, steps)) / self._sigma

        return after, max(1, min(chunk // len(batches[0]), MOVED_BYTES // size))

    def forward(self, images: Tensor, tangent: Tensor) -> Tensor:
        """Return J v, (m,), of (B, C, H, W)."""
        return jvp(self, (images,), (tangent,))[1]

    def bend(self, images: Tensor, tangent: Tensor) -> Tensor:
        """Return the second derivative along v, (m,), of (B, C, H, W)."""
        return second_directional_derivative(self, images, tangent)

    def pullback(self, images: Tensor) -> Callable[[Tensor], Tensor]:
        """Return u -> J^T u, from (m,) to (n,), for many u: the gradient is worked out once."""
        pull = vjp(self, images)[1]
        return lambda cotangent: pull(cotangent)[0].flatten()

    def _model(self, images: Tensor, targets: Tensor) -> Tensor:
        if self.unrolled:
            return self._picked(unrolled(self.problem, self._weights, images, targets))
        return self._picked(self._differentiated.expected(self._weights, images, targets))

    def _picked(self, arrays: dict[str, Tensor]) -> Tensor:
        return torch.cat([arrays[n].flatten()[i] for n, i in self.picks.items()])


def separable(problem: Problem) -> bool:
    """Return whether every image adds its own share to the gradient of a step that is read."""
    norms = [m for m in problem.model.modules() if isinstance(m, _BatchNorm)]
    statistics = any(m.training or m.running_mean is None for m in norms)
    scaled = math.isfinite(problem.threat.channel.clip) or bool(problem.beyond)
    return not (statistics or scaled)


def residuals(problem: Problem, targets: Tensor, sample: float, seed: int) -> Residuals:
    """Return the residuals on a sample of the entries, spread evenly over the arrays.

    Parameters
    ----------
    problem : Problem
        What the attacker knows.
    targets : Tensor
        (B, outputs).
    sample : float
        Entries a pixel, > 0; all where there are fewer, ``math.inf`` for all. Entries that the
        channel masks tell nothing and are left out.
    seed : int
        Of the sample.
    """
    told = {n: _visible_entries(problem, n) for n in problem.gradient}
    return Residuals(
        problem, targets, stratified_indices(told, sample * math.prod(problem.shape), seed)
    )


def second_directional_derivative(function: Function, images: Tensor, tangent: Tensor) -> Tensor:
    """Return the second derivative of a function of images along v, both (B, C, H, W).

    From its values at the images and :data:`CURVATURE_STEP` times v to either side, which costs a
    tenth of differentiating twice.
    """
    step = CURVATURE_STEP * tangent
    return (
        function(images + step) - 2 * function(images) + function(images - step)
    ) / CURVATURE_STEP**2


def stratified_indices(entries: dict[str, Tensor], count: float, seed: int) -> dict[str, Tensor]:
    """Return about ``count`` of the entries, as many of each array as of the others.

    Small arrays are taken whole, and at least one entry of each that has any. Large arrays of
    deep networks, each derivative of which costs as much as those of all others, are left out
    where the smaller ones have :data:`MAX_WASTED_RATIO` entries for one that is wanted.
    """
    total = sum(map(len, entries.values()))
    left = min(total, count)
    smallest = sorted(entries, key=lambda n: len(entries[n]))
    before = itertools.accumulate((len(entries[n]) for n in smallest), initial=0)
    chosen = [
        n for n, passed in zip(smallest, before, strict=False) if passed < MAX_WASTED_RATIO * count
    ]
    picks: dict[str, Tensor] = {}
    for place, name in enumerate(chosen):
        take = min(len(entries[name]), max(1, int(left / (len(chosen) - place))))
        left -= take
        order = torch.randperm(len(entries[name]), generator=generator(seed, "sample", name))
        picks[name] = entries[name][order[:take].to(entries[name].device)]
    return {n: picks[n] for n in entries if n in picks and len(picks[n])}


def jacobian(
    function: Callable[[Tensor], Tensor], x: Tensor, chunk: int = COLUMNS_PER_CHUNK
) -> Tensor:
    """Return the Jacobian of ``function`` at ``x``, (m, n), by forward mode, ``chunk`` columns."""
    n = x.numel()
    columns = []
    for first in range(0, n, chunk):
        index = torch.arange(first, min(first + chunk, n), device=x.device)
        basis = torch.zeros(len(index), n, dtype=x.dtype, device=x.device)
        basis[torch.arange(len(index)), index] = 1
        columns.append(vmap(lambda v: jvp(function, (x,), (v,))[1])(basis.view(-1, *x.shape)))
    return torch.cat(columns).T


def _of_arrays(problem: Problem, names: Collection[str]) -> Problem:
    """Return the problem of the named arrays alone, with all others of the model frozen."""
    told = {n: g for n, g in problem.gradient.items() if n in names}
    return dataclasses.replace(problem, gradient=told, hidden=frozenset())


def _visible_entries(problem: Problem, name: str) -> Tensor:
    """Return the entries of a flattened array that the channel lets through."""
    mask = problem.threat.channel.observed.get(name)
    if mask is not None:
        return mask.flatten().nonzero()[:, 0].to(problem.device)
    return torch.arange(problem.gradient[name].numel(), device=problem.device)
