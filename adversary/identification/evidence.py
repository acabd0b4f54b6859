"""An update as equations that are linear in who was in it.

What the server reads is, to first order, a sum over the client's images of what each adds: to the
weights its gradients along the path of local training, to the buffers of batch normalisation its
own mean and spread of every channel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from adversary.common.types import StateDict
from adversary.identification.bridge import Bridge
from adversary.identification.company import Company, told, with_company
from adversary.identification.intervals import Limits
from adversary.identification.per_example import Blocks, blocks, parts, readable
from adversary.identification.public_company import company, public_batches
from adversary.identification.rehearsal import Rehearsal, gains, start, trained_names
from adversary.identification.views import Views
from adversary.observation.channel import Channel
from adversary.observation.observation import Observation, ObservationError
from adversary.problem.losses import mean_loss

POINTS = 5
"""Places on the path of local training at which images' parts are taken."""

FEW_STEPS = 2
"""Local steps up to which the mean of their batches is nearer to each than public X-rays are."""


class NothingTrainedError(ObservationError):
    """An update in which nothing was trained; one line."""


@dataclass(frozen=True, eq=False)
class Point:
    """One place on the path, which stands for a share of the local steps.

    Parameters
    ----------
    weights : dict of str to Tensor
        Parameters and buffers.
    gain : dict of str to Tensor
        By how much the gradients of these steps move each weight in all, and the statistics of
        these batches each buffer: of the shape of the array, or ().
    companies : mapping of str to Company
        Of the images in each layer whose buffers are read.
    """

    weights: StateDict
    gain: StateDict
    companies: Mapping[str, Company] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Update:
    """What an update tells, and where the weights were meanwhile.

    Parameters
    ----------
    moved : dict of str to Tensor
        What of each array's change came of the images, by name.
    points : list of Point
        In the order of training.
    entries : mapping of str to Block
        What is read of the parameters.
    layers : list of str
        Batch-normalisation layers whose buffers are read.
    images : float
        How many images the update is a mean over.
    batch_size : int
        Images that pass a layer together.
    epochs : float
        How often each image was used.
    gain : list of dict of str to Tensor
        As of :class:`Point`, step by step.
    bridge : Bridge
        Where the weights may have been meanwhile.
    clip_factor : float
        By which clipping has scaled the update down, in (0, 1]; :attr:`moved` is as before it.
    within : dict of str to Limits
        Of arrays of which only limits are told: those of :attr:`moved`.
    noise : dict of str to Tensor
        Standard deviations of what stands for them in :attr:`moved`, by array.
    """

    moved: StateDict
    points: list[Point]
    entries: Blocks
    layers: list[str]
    images: float
    batch_size: int
    epochs: float
    gain: list[StateDict]
    bridge: Bridge
    clip_factor: float = 1.0
    within: dict[str, Limits] = field(default_factory=dict)
    noise: StateDict = field(default_factory=dict)

    @property
    def sketched(self) -> bool:
        """Whether entries of arrays were left out."""
        return any(block.size < self.moved[name].numel() for name, block in self.entries.items())

    @property
    def data(self) -> Tensor:
        """The left-hand side of the equations, (P,), float32."""
        return self.flat(self.moved).float()

    @property
    def limits(self) -> Limits | None:
        """Between what the left-hand sides lie, (P,); None where their values are known."""
        if not self.within:
            return None
        ends = [self.moved | {n: getattr(one, end) for n, one in self.within.items()}
                for end in ("lower", "upper")]  # fmt: skip
        return Limits(*(self.flat(end).double() for end in ends))

    def flat(self, arrays: StateDict) -> Tensor:
        """Return the entries of arrays in the order of :attr:`data`, (P,)."""
        told = [self.entries[n].of(arrays[n]) for n in self.entries]
        for name in self.layers:
            told += [arrays[f"{name}.running_mean"], arrays[f"{name}.running_var"]]
        return torch.cat([t.flatten() for t in told])

    @property
    def sizes(self) -> dict[str, int]:
        """How many equations each array gives, in the order of :attr:`data`."""
        found = {n: b.size for n, b in self.entries.items()}
        for name in self.layers:
            for kind in ("running_mean", "running_var"):
                found[f"{name}.{kind}"] = self.moved[f"{name}.{kind}"].numel()
        return found


def local_steps(observation: Observation) -> int:
    """Return how many steps each client of an update took, the mean over an aggregate's."""
    examples = list(observation.members.values()) or [observation.num_examples]
    return round(sum(map(observation.recipe.steps, examples)) / len(examples))


def clip_factor(observation: Observation, channel: Channel, usual: float) -> float:
    """Return by which factor clipping has scaled an update down, in (0, 1].

    Parameters
    ----------
    observation : Observation
        The update.
    channel : Channel
        Its clipping.
    usual : float
        L2 norm of the changes of weights that rehearsals make.
    """
    return min(1.0, channel.clip / usual) if math.isfinite(channel.clip) else 1.0


def read(
    model: nn.Module,
    observation: Observation,
    channel: Channel,
    rehearsals: Sequence[Rehearsal],
    *,
    most: int,
    generator: torch.Generator,
    points: int = POINTS,
) -> Update:
    """Return what an update tells, with the path that rehearsals and its end give it.

    Parameters
    ----------
    model : nn.Module
        From :func:`~adversary.identification.rehearsal.in_training_mode`.
    observation, channel
        The update, and what the defence made of it.
    rehearsals : sequence of Rehearsal
        At least one.
    most : int
        Entries of each parameter to read, about; see
        :func:`~adversary.identification.per_example.blocks`.
    generator : torch.Generator
        Draws the entries.
    points : int
        Places on the path, >= 1.

    Raises
    ------
    NothingTrainedError
        If no weight that is observed has moved.
    """
    sent, steps = start(model, observation), local_steps(observation)
    moved = _changes(model, observation, sent)
    names = list(moved)
    factor = clip_factor(observation, channel, _usual(rehearsals, sent, names))
    moved = {n: value / factor for n, value in moved.items()}
    within = _limits(channel, moved, factor)
    expected = {n: _expected(rehearsals, sent, n) for n in within}
    values = {n: limits.values(*expected[n]) for n, limits in within.items()}
    ends = moved | {n: limits.mean(*expected[n]) for n, limits in within.items()}
    roots = [_mean([r.root[k] for r in rehearsals]) for k in range(len(rehearsals[0].root))]
    gain = gains(observation.recipe, steps, roots, names)
    bridge = Bridge(rehearsals, sent, ends)
    moved |= {n: value for n, (value, _) in values.items()}
    drift = _drift(moved, bridge.at, gain, sent, observation)
    moved = {n: value - drift[n] for n, value in moved.items()}
    within = {n: limits.shifted(-drift[n]) for n, limits in within.items()}
    layers, statistics = _read_buffers(model, observation, steps)
    for step in range(steps):
        gain[step] |= {n: shares[step] for n, (_, shares) in statistics.items()}
    moved |= {n: value for n, (value, _) in statistics.items()}
    seen = {n: moved[n] for n in readable(model, names) if _is_seen(channel, n)}
    moved |= {n: v * channel.observed[n] for n, v in seen.items() if n in channel.observed}
    update = Update(
        moved=moved,
        points=_points(bridge.at, gain, points),
        entries=blocks(seen, most, generator=generator),
        layers=layers,
        images=observation.images,
        batch_size=observation.recipe.batch_size,
        epochs=max(1.0, _epochs(observation, steps)),
        gain=gain,
        bridge=bridge,
        clip_factor=factor,
        within=within,
        noise={n: noise for n, (_, noise) in values.items()},
    )
    return _accompanied(update, model, observation, rehearsals)


def along(
    update: Update,
    model: nn.Module,
    observation: Observation,
    own: int,
    *,
    points: int = POINTS,
) -> Update:
    """Return an update with the path that one of its rehearsals gives it."""
    bridge = update.bridge
    found = replace(update, points=_points(lambda k: bridge.at(k, own), update.gain, points))
    return _accompanied(found, model, observation, [bridge.rehearsals[own]])


def _accompanied(
    update: Update, model: nn.Module, observation: Observation, rehearsals: Sequence[Rehearsal]
) -> Update:
    """Return an update with the company that images have at each place."""
    if not update.layers:
        return update
    if len(update.gain) <= FEW_STEPS:
        one = {n: told(n, model.get_submodule(n), update.moved, update.gain) for n in update.layers}
        return replace(update, points=[replace(p, companies=one) for p in update.points])
    batches = public_batches(rehearsals, observation.recipe.batch_size)
    points = [
        replace(p, companies=company(model, update.layers, p.weights, batches, observation.recipe))
        for p in update.points
    ]
    return replace(update, points=points)


def _changes(model: nn.Module, observation: Observation, sent: StateDict) -> StateDict:
    """Return by how much each trained array that is observed has moved, sent minus returned."""
    names = [n for n in trained_names(model, observation) if n in observation.returned]
    moved = {n: sent[n].double() - observation.returned[n].double() for n in names}
    if not any(bool(value.any()) for value in moved.values()):
        raise NothingTrainedError(
            f"{observation.name}: no weight has moved, so nothing says who was in it"
        )
    return moved


def _usual(rehearsals: Sequence[Rehearsal], sent: StateDict, names: Sequence[str]) -> float:
    """Return the mean L2 norm of the changes of weights that rehearsals make."""
    moves = [
        math.sqrt(sum(float((r.weights[-1][n] - sent[n]).square().sum()) for n in names))
        for r in rehearsals
    ]
    return sum(moves) / len(moves)


def _is_seen(channel: Channel, name: str) -> bool:
    return name not in channel.observed or bool(channel.observed[name].any())


def _mean(arrays: Sequence[StateDict]) -> StateDict:
    return {n: torch.stack([one[n] for one in arrays]).mean(0) for n in arrays[0]}


def _limits(channel: Channel, moved: StateDict, factor: float) -> dict[str, Limits]:
    """Return the limits of what moved, by array of which only these are told."""
    # A channel tells them of returned minus sent weights.
    return {
        n: Limits(-interval.upper.double() / factor, -interval.lower.double() / factor)
        for n, interval in channel.intervals.items()
        if n in moved
    }


def _expected(rehearsals: Sequence[Rehearsal], sent: StateDict, name: str) -> tuple[Tensor, Tensor]:
    """Return what rehearsals say of how far an array moves, and how sure that is."""
    ends = torch.stack([(sent[name] - r.weights[-1][name]).double() for r in rehearsals])
    mean = ends.mean(0)
    spread = (ends - mean).square().sum(0).mean() / max(1, len(ends) - 1)
    if not spread > 0:
        spread = mean.square().mean().clamp_min(1e-300)
    return mean, ((1 + 1 / len(ends)) * spread).sqrt().expand_as(mean)


def _drift(
    moved: StateDict,
    path: Callable[[int], StateDict],
    gain: Sequence[StateDict],
    sent: StateDict,
    observation: Observation,
) -> StateDict:
    """Return what weight decay and the proximal term did, which no image has a part in."""
    recipe = observation.recipe
    found: StateDict = {n: torch.zeros(()) for n in moved}
    if not recipe.weight_decay and not recipe.proximal_mu:
        return found
    for step, share in enumerate(gain):
        at = path(step)
        for name in moved:
            pull = recipe.weight_decay * at[name] + recipe.proximal_mu * (at[name] - sent[name])
            found[name] = found[name] + (share[name] * pull).double()
    return found


def _read_buffers(
    model: nn.Module, observation: Observation, steps: int
) -> tuple[list[str], dict[str, tuple[Tensor, Tensor]]]:
    """Return layers whose buffers moved, and by buffer what batches added, with steps' shares."""
    layers: list[str] = []
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for name, layer in model.named_modules():
        names = [f"{name}.running_mean", f"{name}.running_var"]
        if not isinstance(layer, _BatchNorm) or not layer.training:
            continue
        if not all(n in observation.sent and n in observation.returned for n in names):
            continue
        if layer.momentum is None:
            before = int(observation.sent.get(f"{name}.num_batches_tracked", torch.zeros(())))
            kept, shares = before / (before + steps), torch.full((steps,), 1 / (before + steps))
        else:
            kept = (1 - layer.momentum) ** steps
            later = torch.arange(steps - 1, -1, -1)
            shares = layer.momentum * (1 - layer.momentum) ** later
        layers.append(name)
        for n in names:
            told = observation.returned[n].double() - kept * observation.sent[n].double()
            found[n] = told, shares
    return layers, found


def _points(path: Callable[[int], StateDict], gain: Sequence[StateDict], most: int) -> list[Point]:
    """Return places that stand for runs of steps of equal length, with their gains summed."""
    found = []
    for run in torch.arange(len(gain)).tensor_split(min(most, len(gain))):
        middle = int(run[len(run) // 2]) if len(run) % 2 else int(run[len(run) // 2 - 1])
        total = {
            name: torch.stack(torch.broadcast_tensors(*(gain[int(k)][name] for k in run))).sum(0)
            for name in gain[0]
        }
        found.append(Point(path(middle), total))
    return found


def features(
    model: nn.Module,
    update: Update,
    images: Tensor,
    targets: Tensor,
    observation: Observation,
    channel: Channel,
    *,
    generator: torch.Generator,
    views: Views | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Tensor:
    """Return what each image would have added at each point, by view, (N, T V, P), float32.

    The sum over points and views of one image is what it adds if its steps are spread over the
    path and over what the network may have seen of it.

    Parameters
    ----------
    model : nn.Module
        As for :func:`read`.
    update : Update
        From :func:`read`.
    images, targets : Tensor
        (N, C, H, W), and (N, outputs).
    observation, channel
        As for :func:`read`.
    generator : torch.Generator
        Puts images together where a batch's normalisation mixes them.
    views : Views, optional
        What the network saw of the images; by default the images themselves.
    progress : callable
        Told the share that is done, in [0, 1].
    """
    views = views or Views()
    found = torch.empty(len(images), len(update.points) * views.count, len(update.data))
    for place, point in enumerate(update.points):
        own = with_company(model, point.companies, update.batch_size)
        mixed = any(isinstance(m, _BatchNorm) and m.training for m in own.modules())
        at_once = min(update.batch_size, len(images)) if mixed else 64
        scale = _scale(update, point) / (update.images * views.count)
        for batch in _groups(len(images), at_once, mixed, generator):
            seen = views.of((images[batch], targets[batch]), place, generator)
            for view, shown in enumerate(seen):
                rows = sum(_rows(own, update, point, one, observation, channel) for one in shown)
                found[batch, place * views.count + view] = (rows * scale).float()
            progress((place + len(batch) / len(images)) / len(update.points))
    return _masked(found, update, channel)


def _scale(update: Update, point: Point) -> Tensor:
    """Return by how much a point's gradients and statistics count in each equation, (P,)."""
    whole = {n: point.gain[n].expand(update.moved[n].shape) for n in update.moved}
    told = [update.entries[n].of(whole[n]) for n in update.entries]
    for name in update.layers:
        told += [whole[f"{name}.running_mean"], whole[f"{name}.running_var"]]
    return torch.cat(told).float()


def _groups(images: int, at_once: int, mixed: bool, generator: torch.Generator) -> Sequence[Tensor]:
    """Return indices of images that pass the network together; none alone where they mix."""
    if not mixed:
        return torch.arange(images).split(at_once)
    count = max(1, images // max(2, at_once))
    return torch.randperm(images, generator=generator).tensor_split(count)


def _masked(found: Tensor, update: Update, channel: Channel) -> Tensor:
    for name, columns in zip(
        update.sizes, found.split(list(update.sizes.values()), dim=2), strict=True
    ):
        if name in channel.observed:
            columns *= update.entries[name].of(channel.observed[name]).to(found)
    return found


def _rows(
    model: nn.Module,
    update: Update,
    point: Point,
    examples: tuple[Tensor, Tensor],
    observation: Observation,
    channel: Channel,
) -> Tensor:
    """Return what each of the examples, images and targets, adds at a point, (n, P)."""
    recipe, (images, targets) = observation.recipe, examples
    weights = torch.tensor(recipe.class_weights) if recipe.class_weights else None
    statistics: dict[str, Tensor] = {}
    hooks = [
        model.get_submodule(name).register_forward_pre_hook(
            lambda _, entering, name=name: statistics.update(
                {name: _statistics(entering[0], _centre(update, name), update.batch_size)}
            )
        )
        for name in update.layers
    ]
    try:
        rows = parts(
            model,
            {n: v.clone() for n, v in point.weights.items()},
            images,
            lambda out: len(out) * mean_loss(out, targets, recipe.loss, weights),
            update.entries,
        )
    finally:
        for hook in hooks:
            hook.remove()
    if math.isfinite(channel.example_clip):
        rows = rows * (channel.example_clip / _norms(rows, update)).clamp(max=1)[:, None]
    return torch.cat([rows, *(statistics[name] for name in update.layers)], 1)


def _norms(rows: Tensor, update: Update) -> Tensor:
    """Return the L2 norms of whole gradients, from the entries that are read of them."""
    squares = torch.zeros(len(rows))
    shares = rows.split([b.size for b in update.entries.values()], 1)
    for (name, block), own in zip(update.entries.items(), shares, strict=True):
        squares += own.square().sum(1) * (update.moved[name].numel() / block.size)
    return squares.sqrt().clamp_min(1e-30)


def _centre(update: Update, name: str) -> Tensor:
    """Return the mean over steps of a layer's batch means, (C,)."""
    key = f"{name}.running_mean"
    total = sum(float(point.gain[key]) for point in update.points)
    return (update.moved[key] / total).float()


def _statistics(entering: Tensor, centre: Tensor, batch_size: int) -> Tensor:
    """Return each image's mean and spread about a centre, of each channel, (B, 2 C)."""
    values = entering.detach().flatten(2) if entering.ndim > 2 else entering.detach()[..., None]
    apart = values - centre[:, None]
    count = batch_size * values.shape[2]
    unbiased = count / max(1, count - 1)
    return torch.cat([values.mean(2), unbiased * apart.square().mean(2)], 1)


def _epochs(observation: Observation, steps: int) -> float:
    """Return how often each image of one client was used."""
    clients = max(1, len(observation.members))
    return steps * observation.recipe.batch_size * clients / observation.images
