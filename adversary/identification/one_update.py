"""Who was in an update, of a gallery of candidates."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from adversary.common.seeding import generator
from adversary.identification import evidence, membership, null
from adversary.identification.evidence import Update, local_steps
from adversary.identification.intervals import regress_within
from adversary.identification.path_uncertainty import (
    EXAMPLES,
    LEAST,
    PathUncertainty,
    path_uncertainty,
)
from adversary.identification.regression import (
    DIRECTIONS,
    MISFIT,
    Equations,
    Fit,
    directions,
    regress,
)
from adversary.identification.rehearsal import Rehearsal, in_training_mode, rehearse
from adversary.identification.views import Views
from adversary.observation.channel import Channel
from adversary.observation.observation import Observation, ObservationError
from adversary.observation.threat_model import ThreatModel
from adversary.priors.public import Prior

MOST_REHEARSALS, FEWEST_REHEARSALS = 32, 4
"""Rehearsals that stand for the client's path: at most, at least."""

MEMORY = 2**31
"""Bytes that images' parts may take; beyond it fewer entries of each array are read."""

MOST, FEWEST_ENTRIES = 16384, 64
"""Entries of an array that are read at most, and at least."""

MOST_ROWS = 12_000
"""Unknowns of the regression at most, a few an image: their products take 1.2 GB, three times that
while it is solved, and three minutes each time. Directions are given up for it."""

VIEW_DIRECTIONS = 4
"""Directions kept of an image of which the network saw one of several views."""

LEFT = 0.15
"""Chi-square that is aimed at: what errs alike in many images is taken for theirs, so that less is
left than there was."""

MAX_CHI_SQUARE, REFITS = 1.5, 5
"""Chi-square beyond which an update with known noise is fitted with more, and fits at most."""

CHUNK = 64
"""Images whose parts at all points are in memory at once, about."""


class IdentificationError(ObservationError):
    """An update or a gallery with which nobody can be identified; one line."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Gallery:
    """Candidates, of whom it is in question who was in an update.

    Parameters
    ----------
    images : Tensor
        (N, C, H, W) in [0, 1].
    labels : Tensor, optional
        (N,) class indices or (N, L) multi-hot; None where they are not known.
    names : tuple of str
        By which each is told from the others.
    """

    images: Tensor
    names: tuple[str, ...]
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, kw_only=True, eq=False)
class Identification:
    """What one update says of each candidate.

    Parameters
    ----------
    names : tuple of str
        Of the candidates that are scored, (N).
    scores : Scores
        Of the candidates and of the null.
    p_values : Tensor
        (N,), of such a score or a higher one by chance.
    posteriors : Tensor
        (N,), probabilities of membership.
    rate : float
        The prior probability that the posteriors stand on.
    seconds : float
        That it took.
    flags : tuple of str
        What a reader should know: "labels-guessed", "duplicates-left-out", "sketched".
    """

    names: tuple[str, ...]
    scores: null.Scores
    p_values: Tensor
    posteriors: Tensor
    rate: float
    seconds: float
    flags: tuple[str, ...] = ()

    @property
    def named(self) -> Tensor:
        """Who can be named at a false discovery rate of 5 %, (N,) bool."""
        return null.named(self.p_values)


def check_public(public: Prior | None) -> None:
    """Raise a one-line ValueError where public X-rays do not do for looking for anybody."""
    if public is None or public.labels is None:
        raise IdentificationError(
            "nobody can be identified without public X-rays and their labels: take a larger "
            "data.public"
        )
    null.check(null.held_back(len(public.images)))


def identify(
    observation: Observation,
    threat: ThreatModel,
    model: nn.Module,
    gallery: Gallery,
    public: Prior | None,
    *,
    seed: int = 0,
    rate: float = 0.0,
    memory: int = MEMORY,
    progress: Callable[[float], None] = lambda share: None,
) -> Identification:
    """Return what an update says of each candidate.

    Parameters
    ----------
    observation : Observation
        The update.
    threat : ThreatModel
        Of which only the channel is used.
    model : nn.Module
        The architecture; not changed.
    gallery : Gallery
        Candidates. Exact duplicates of a public X-ray, or of an earlier candidate, are left out.
    public : Prior, optional
        Public X-rays with labels: background, rehearsals and null.
    seed : int
        Of all that is drawn.
    rate : float
        Prior probability of membership; 0 is the update's number of images over the gallery's,
        at most a half.
    memory : int
        Bytes, about.
    progress : callable
        Told the share that is done, in [0, 1].

    Raises
    ------
    ObservationError
        One line: no weight moved, no candidate is left, there are too many, or there is no
        honest null.
    """
    began = time.monotonic()
    observation.check()
    check_public(public)
    assert public is not None
    known, held = _split(public, seed)
    gallery, flags = _without_duplicates(gallery, public.images)
    if not len(gallery):
        raise IdentificationError(
            f"{observation.name}: no candidate is left who is not among the public X-rays"
        )
    attack = _Attack(model, observation, threat.channel, known, seed)
    asked, ways = attack.asked(gallery, held)
    images = len(asked.images) + len(known.images)
    update = attack.read(images, memory, lambda share: progress(0.1 * share))
    rows = attack.rows(update, asked, lambda share: progress(0.1 + 0.6 * share))
    background = attack.rows(update, known, lambda share: progress(0.7 + 0.2 * share))
    doubt = attack.path_uncertainty(update)
    scale, noise = attack.units(update, background)
    guarded = ways > 1 or observation.recipe.optimizer == "adam"
    least = MISFIT if guarded else LEAST
    fit = _fitted(
        *(update, rows.mul_(scale), background.mul_(scale), scale, noise, doubt), least=least
    )
    statistic, likeliest = fit.statistic.view(ways, -1).max(0)  # of each label in turn
    expected = fit.expected.view(ways, -1).gather(0, likeliest[None])[0]
    rate = rate or min(0.5, observation.images / len(gallery))
    flags += ["sketched"] * (update.sketched or attack.gives_up_directions)
    flags += ["labels-guessed"] * (ways > 1)
    scores = null.standardised(statistic, expected, len(gallery))
    return Identification(
        names=gallery.names,
        scores=scores,
        p_values=null.p_values(scores.values, len(scores.null)),
        posteriors=membership.posteriors(scores.values, scores.expected, rate),
        rate=rate,
        seconds=time.monotonic() - began,
        flags=tuple(flags),
    )


def _split(public: Prior, seed: int) -> tuple[Prior, Prior]:
    """Return public X-rays for the background, and those held back for the null."""
    assert public.labels is not None
    order = torch.randperm(len(public.images), generator=generator(seed, "null"))
    held = null.held_back(len(order))
    parts = order[held:].sort().values, order[:held].sort().values
    background, rest = (Prior(public.images[p], public.labels[p]) for p in parts)
    return background, rest


def _without_duplicates(gallery: Gallery, public: Tensor) -> tuple[Gallery, list[str]]:
    """Return a gallery of different images, none of them public."""
    seen = {_content(image) for image in public}
    kept = []
    for place, image in enumerate(gallery.images):
        if (content := _content(image)) not in seen:
            seen.add(content)
            kept.append(place)
    if len(kept) == len(gallery):
        return gallery, []
    labels = None if gallery.labels is None else gallery.labels[kept]
    names = tuple(gallery.names[place] for place in kept)
    left = Gallery(images=gallery.images[kept], names=names, labels=labels)
    return left, ["duplicates-left-out"]


def _content(image: Tensor) -> bytes:
    """Return what is equal of equal images, whether they were read as bytes or not."""
    return (image * 255).round().to(torch.uint8).numpy().tobytes()


class _Attack:
    """One update, and what the attacker has for it."""

    def __init__(
        self, model: nn.Module, observation: Observation, channel: Channel, known: Prior, seed: int
    ) -> None:
        self.observation = observation
        self.channel = channel
        self.known = known
        self.model = in_training_mode(model, observation.recipe)
        with torch.no_grad():
            copied = in_training_mode(model, observation.recipe).eval()
            self.outputs = copied(known.images[:1]).shape[1]
        self.generator = generator(seed, "identify", observation.round, observation.client)
        self.most_directions = VIEW_DIRECTIONS  # of an image's part

    def targets(self, labels: Tensor) -> Tensor:
        """Return labels, (N,) or (N, L), as targets (N, outputs)."""
        if labels.ndim == 2:
            return labels.float()
        if self.observation.recipe.loss == "bce":
            return labels.float()[:, None]
        return functional.one_hot(labels.long(), self.outputs).float()

    def asked(self, gallery: Gallery, held: Prior) -> tuple[Prior, int]:
        """Return candidates and null with labels, once for each label that may be theirs.

        Raises
        ------
        IdentificationError
            If labels are missing that are too many to try, or there are too many images.
        """
        assert held.labels is not None
        images = torch.cat([gallery.images, held.images])
        ways = 1 if gallery.labels is not None else max(2, self.outputs)
        unknowns = ways * len(images) + len(self.known.images)
        if unknowns > MOST_ROWS:
            raise IdentificationError(
                f"{self.observation.name}: {len(gallery)} candidates and the public X-rays make"
                f" {unknowns} unknowns; must be at most {MOST_ROWS}: ask for fewer at a time"
            )
        self.most_directions = MOST_ROWS // unknowns - 1
        if gallery.labels is not None:
            return Prior(images, torch.cat([gallery.labels, held.labels.to(gallery.labels)])), ways
        if held.labels.ndim == 2:
            raise IdentificationError(
                f"{self.observation.name}: candidates need labels where an image has several"
            )
        labels = torch.arange(ways).repeat_interleave(len(images))
        return Prior(images.repeat(ways, 1, 1, 1), labels), ways

    def read(self, images: int, memory: int, progress: Callable[[float], None]) -> Update:
        """Rehearse the training, and return what the update tells in so much memory."""
        arrays = sum(p.requires_grad for p in self.model.parameters())
        rows = 2 + min(DIRECTIONS, self.most_directions)  # and a copy of one
        entries = memory / (4 * rows * images) / max(1, arrays)
        steps = local_steps(self.observation)
        count = self._rehearsals_within(images, memory, steps)
        self.rehearsals = []
        for number in range(count):
            progress(number / count)
            self.rehearsals.append(self._rehearsed(steps))
        return evidence.read(
            self.model,
            self.observation,
            self.channel,
            self.rehearsals,
            most=int(min(MOST, max(FEWEST_ENTRIES, entries))),
            generator=self.generator,
        )

    def _rehearsals_within(self, images: int, memory: int, steps: int) -> int:
        """Return how many rehearsals take no more passes than images, and so much memory."""
        if steps == 1:  # the path is known
            return FEWEST_REHEARSALS
        passes = steps * min(self.observation.recipe.batch_size, self.observation.images)
        kept = 4 * (steps + 1) * sum(p.numel() for p in self.model.parameters())
        most = min(images * evidence.POINTS / max(1, passes), memory / kept - 2, MOST_REHEARSALS)
        return max(FEWEST_REHEARSALS, int(most))

    def _rehearsed(self, steps: int) -> Rehearsal:
        assert self.known.labels is not None
        clients = max(1, len(self.observation.members))
        wanted, there = max(1, self.observation.images // clients), len(self.known.images)
        drawn = torch.cat([
            torch.randperm(there, generator=self.generator)
            for _ in range(math.ceil(wanted / there))
        ])[:wanted]  # fmt: skip
        return rehearse(
            self.model,
            self.observation,
            (self.known.images[drawn], self.targets(self.known.labels[drawn])),
            steps=steps,
            generator=self.generator,
            channel=self.channel,
        )

    @property
    def gives_up_directions(self) -> bool:
        """Whether there are too many images to keep how their parts change along the path."""
        return local_steps(self.observation) > 1 and self.most_directions < DIRECTIONS

    def directions_kept(self, views: Views) -> int:
        """Return in how many directions an image's part may change."""
        return min(DIRECTIONS if views.count == 1 else VIEW_DIRECTIONS, self.most_directions)

    def views(self) -> Views:
        """Return what the network may have seen of an image."""
        assert self.known.labels is not None
        company = self.known.images, self.targets(self.known.labels)
        return Views(self.channel, company, seed=self.generator.initial_seed())

    def rows(self, update: Update, of: Prior, progress: Callable[[float], None]) -> Tensor:
        """Return what images add to the update, (1 + D, N, P)."""
        assert of.labels is not None
        views = self.views()
        spread = (len(update.points) * views.count * update.epochs) ** -0.5
        targets = self.targets(of.labels)
        order = torch.randperm(len(targets), generator=self.generator)  # labels lie in blocks
        found: Tensor | None = None
        done = 0
        for chunk in order.tensor_split(max(1, views.count * len(order) // CHUNK)):
            parts = evidence.features(
                *(self.model, update, of.images[chunk], targets[chunk]),
                *(self.observation, self.channel),
                generator=self.generator,
                views=views,
            )
            own = directions(parts, spread, self.directions_kept(views))
            if found is None:
                found = own.new_empty(len(own), len(order), own.shape[2])
            found[:, chunk] = own
            done += len(chunk)
            progress(done / len(order))
        assert found is not None
        return found

    def path_uncertainty(self, update: Update) -> PathUncertainty:
        """Return how far the images' parts may be off."""
        assert self.known.labels is not None
        chosen = torch.randperm(len(self.known.images), generator=self.generator)[:EXAMPLES]
        views = self.views()
        return path_uncertainty(
            *(self.model, update, self.observation, self.channel, self.rehearsals),
            (self.known.images[chosen], self.targets(self.known.labels[chosen])),
            seed=self.generator.initial_seed(),
            views=views,
            kept=self.directions_kept(views),
        )

    def units(self, update: Update, background: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return a factor for each equation, and the known noise in these units, (P,) each.

        Statistics of batch normalisation count in deviations of public X-rays from their mean, and
        altogether as much as the weights.
        """
        buffers = torch.cat([
            torch.full((size,), "running_" in name) for name, size in update.sizes.items()
        ])  # fmt: skip
        scale = torch.ones(len(buffers))
        if bool(buffers.any()):
            apart = background[0] - background[0].mean(0)
            unit = (apart[:, ~buffers].square().sum(1).mean() / buffers.sum()).sqrt()
            scale[buffers] = unit / apart[:, buffers].std(0).clamp_min(1e-12)
        noise = self._noise(update)
        return scale, noise * scale if bool(noise.any()) else None

    def _noise(self, update: Update) -> Tensor:
        """Return standard deviations of what is known of the noise, (P,)."""
        known = self.channel.noise
        arrays = {
            n: torch.full(value.shape, known.get(n, 0.0) / update.clip_factor)
            for n, value in update.moved.items()
        }
        return update.flat(arrays | update.noise).float()


def _fitted(
    update: Update,
    rows: Tensor,
    background: Tensor,
    scale: Tensor,
    noise: Tensor | None,
    doubt: PathUncertainty,
    *,
    least: float = LEAST,
) -> Fit:
    """Return what the update says of images, all in the units of the rows.

    How much the model leaves is seen in what is left of the update itself: the misfit is taken so
    many times as makes chi-square :data:`LEFT`. A larger ``least`` misfit is for the parts of an
    image under each of its labels, which are nearly multiples of each other, and for the second
    moments of Adam, which err weight by weight.
    """
    data, limits, off = update.data * scale, update.limits, doubt.scaled(scale)
    misfit = off.misfit(rows, least)
    if limits is not None and noise is not None:
        within = limits.scaled(scale)
        return regress_within(
            *(within, data, rows, background), noise=noise, misfit=misfit, shared=off.shared
        )
    if noise is None:
        return _fitted_to_what_is_left(
            Equations(data, rows, background, None, misfit, off.shared),
            fewest=float(least / misfit.median()),
        )
    for _ in range(REFITS):
        fit = regress(data, rows, background, noise=noise, misfit=misfit, shared=off.shared)
        if fit.chi_square <= MAX_CHI_SQUARE:
            break
        misfit = misfit * fit.chi_square
    return fit


def _fitted_to_what_is_left(equations: Equations, fewest: float) -> Fit:
    """Return the fit with variances so many times that chi-square is :data:`LEFT`, about.

    Not fewer times than ``fewest``, nor than products in float32 allow.
    """
    times, found = 1.0, None
    for _ in range(REFITS):
        try:
            found = equations.fit(times)
        except torch.linalg.LinAlgError:
            times, fewest = 10 * times, 10 * times
            continue
        wanted = max(fewest, times * found.chi_square / LEFT)
        if 0.8 < wanted / times < 1.25:
            break
        times = wanted
    return equations.fit(times) if found is None else found
