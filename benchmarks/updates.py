"""Single updates of clients, of every defence, network and round, made without a server.

A client trains and defends its update as :mod:`fl_sim.client_app` lets it; between rounds the mean
of all clients is taken in plain code.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from adversary import Observation
from adversary.common.convert import Value
from adversary.common.seeding import derive_seed, generator
from adversary.common.types import StateDict
from fl_sim.client_names import client_name
from fl_sim.defences import LocalUpdate
from fl_sim.federation import Federation, build_federation
from fl_sim.models.freezing import load_trainable, trainable_state_dict
from fl_sim.settings.parse import parse
from strategies.honest_but_curious_secagg import AGGREGATE


@dataclass(frozen=True, kw_only=True)
class Case:
    """A channel: what a client does, and what of it the server sees.

    Parameters
    ----------
    defence, options : str
        As in the settings.
    batch, lr
        Images a mini-batch and learning rate, before the defence changes them.
    together : int
        Clients of whom the server sees the mean alone; 1 is each client's own update.
    """

    defence: str = "none"
    options: str = ""
    batch: int = 1
    lr: float = 0.05
    together: int = 1


CASES: dict[str, Case] = {
    "none": Case(),
    "noise .03": Case(defence="gaussian-noise", options="scale=0.03"),
    "noise .1": Case(defence="gaussian-noise", options="scale=0.1"),
    "noise .3": Case(defence="gaussian-noise", options="scale=0.3"),
    "noise 1": Case(defence="gaussian-noise", options="scale=1"),
    "noise 3": Case(defence="gaussian-noise", options="scale=3"),
    "DP-SGD, noise .01": Case(defence="dp-sgd", options="noise_multiplier=0.01, {frozen}"),
    "DP-SGD, noise 1": Case(
        defence="dp-sgd", options="noise_multiplier=1, {frozen}", batch=2, lr=0.5
    ),
    "local DP": Case(defence="local-dp", options="clip=0.1, noise_multiplier=0.02"),
    "top 10 %": Case(defence="top-k", options="share=0.1"),
    "top 1 %": Case(defence="top-k", options="share=0.01"),
    "8 bits": Case(defence="quantise", options="bits=8"),
    "signs": Case(defence="quantise", options="bits=1"),
    "Soteria": Case(defence="soteria"),
    "local head": Case(defence="partial-sharing", options="local=head"),
    "augmentation": Case(defence="augmentation"),
    "MixUp": Case(defence="mixup", batch=2),
    "batch of 2": Case(defence="large-batch", options="factor=2"),
    "batch of 4": Case(defence="large-batch", options="factor=4"),
    "2 local steps": Case(defence="more-steps", options="factor=2"),
    "4 local steps": Case(defence="more-steps", options="factor=4"),
    "aggregate of 2": Case(defence="secure-aggregation", together=2),
    "aggregate of 3": Case(defence="secure-aggregation", together=3),
    "aggregate of 4": Case(defence="secure-aggregation", together=4, lr=0.5),
}
"""By name."""

DROWNED: dict[str, Case] = {"noise 10": Case(defence="gaussian-noise", options="scale=10")}
"""Channels beyond those of the calibration, whose order its seeds are of."""

FURTHER: dict[str, Case] = DROWNED | {
    "clipped batch of 4": Case(defence="dp-sgd", options="noise_multiplier=0", batch=4),
    "batch of 8": Case(batch=8),
    "batch of 16": Case(batch=16),
    "aggregate of 8": Case(defence="secure-aggregation", together=8, lr=0.5),
    "8 local steps": Case(defence="more-steps", options="factor=8"),
    "4 local steps of 2": Case(defence="more-steps", options="factor=4", batch=2),
}
"""Those, and channels that no calibration has."""

NETWORKS: dict[str, dict[str, Value]] = {
    "sigmoid": {"model.name": "lenet"},
    "tanh": {"model.name": "convnet", "model.activation": "tanh"},
    "GELU": {"model.name": "convnet", "model.activation": "gelu"},
    "ReLU": {"model.name": "convnet", "model.activation": "relu"},
    "ResNet18": {"model.name": "resnet18", "model.batch_norm": "eval"},
}
"""Settings of the model by name: a LeNet, three ConvNets, and a ResNet18 of running statistics."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Whose X-rays, and how they are dealt out.

    Parameters
    ----------
    name, path : str
        As ``data.name`` and ``data.path``.
    images, public : int
        X-rays altogether (0 is all), and of them public.
    """

    name: str = "embedded"
    path: str = ""
    images: int = 0
    public: int = 4


@dataclass(frozen=True, kw_only=True)
class Place:
    """One update: of which federation, which round and which client.

    Parameters
    ----------
    case, network : str
        Keys of :data:`CASES` or :data:`FURTHER`, and of :data:`NETWORKS`.
    size : int
        Pixels a side.
    seed : int
        Of the federation: data, first weights, all random choices.
    round : int
        From 1; the clients have trained in all rounds before it.
    client : int
        From 0; of an aggregate the first of its members.
    """

    case: str
    network: str
    size: int
    seed: int
    round: int
    client: int = 0


@dataclass(frozen=True, kw_only=True)
class Update:
    """What the server sees, and what only scoring does.

    Parameters
    ----------
    run : Federation
        Makes the attacker, and what it knows.
    observation : Observation
        The update.
    images : Tensor
        (T, C, H, W) that the network was given: blends, where images are blended. T may be 0.
    """

    run: Federation
    observation: Observation
    images: Tensor = field(repr=False)


CLIENTS = 3
"""Clients of a federation, but for aggregates of more."""


@lru_cache(maxsize=2)
def federation(place: Place, source: Source, effort: str) -> Federation:
    """Return the parts of the federation of an update."""
    case = (CASES | FURTHER)[place.case]
    network = NETWORKS[place.network]
    frozen = "batch_norm=frozen" if place.network == "ResNet18" else ""
    options = case.options.replace(", {frozen}", f", {frozen}" if frozen else "")
    settings = parse(
        {
            "seed": place.seed,
            "rounds": place.round,
            "device": "cpu",
            "data.name": source.name,
            "data.path": source.path,
            "data.num-images": source.images,
            "data.public": source.public,
            "data.image-size": place.size,
            "local.batch-size": case.batch,
            "local.max-steps": 1,
            "local.lr": case.lr,
            "defence.name": case.defence,
            "defence.options": options,
            "adversary.effort": effort,
            "adversary.bounds": "off",
            **{key.replace("_", "-"): value for key, value in network.items()},
        }
    )
    return build_federation(settings, max(CLIENTS, case.together))


def update(place: Place, source: Source, effort: str = "standard") -> Update:
    """Return the update of a place."""
    run = federation(place, source, effort)
    sent, kept = before(run, place.round)
    case = (CASES | FURTHER)[place.case]
    members = [(place.client + i) % len(run.parts) for i in range(case.together)]
    kept = dict(kept)  # that of a later round, which the cache must not see
    each = [_local(run, sent, kept, place.round, client) for client in members]
    observed = [one for one, _ in each]
    observation = observed[0] if case.together == 1 else _mean(run, observed)
    return Update(run=run, observation=observation, images=torch.cat([seen for _, seen in each]))


@lru_cache(maxsize=4)
def before(run: Federation, round: int) -> tuple[StateDict, dict[int, StateDict]]:
    """Return the model that is sent in a round, and what clients keep of theirs.

    In the rounds before it every client trains on all of its images.
    """
    if round == 1:
        return _copied(trainable_state_dict(run.model())), {}
    sent, kept = before(run, round - 1)
    whole = dataclasses.replace(
        run, recipe=dataclasses.replace(run.recipe, max_steps=0, local_epochs=1)
    )
    kept = dict(kept)
    replies = [
        _local(whole, sent, kept, round - 1, client)[0].returned for client in range(len(run.parts))
    ]
    return {
        name: torch.stack([reply[name].double() for reply in replies]).mean(0).to(value.dtype)
        for name, value in sent.items()
    }, kept


def _local(
    run: Federation, sent: StateDict, kept: dict[int, StateDict], round: int, client: int
) -> tuple[Observation, Tensor]:
    """Return what a client sends after local training, and the images that its network saw.

    What it keeps of its model goes into ``kept``.
    """
    model, part, seed = run.model(), run.parts[client], run.settings.seed
    load_trainable(model, sent)
    model.load_state_dict(kept.get(client, {}), strict=False)
    inputs, batches = run.training_inputs(round, client), run.batches(round, client)
    seen: list[Tensor] = []
    if run.settings.defence.name == "mixup":  # what the network is given is known to it alone
        model.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
    torch.manual_seed(derive_seed(seed, "training", round, client))
    run.defence.train(
        model.to(run.device),
        inputs,
        part.labels,
        run.recipe,
        batches,
        generator=generator(seed, "defended training", round, client),
    )
    trained, used = _copied(model.state_dict()), run.used_indices(round, client)
    returned = run.defence.apply(
        LocalUpdate(
            sent=sent,
            returned={name: trained[name] for name in sent},
            model=model,
            recipe=run.recipe,
            images=inputs[used],
            labels=part.labels[used],
        ),
        generator=generator(seed, "defence", round, client),
    )
    kept[client] = {name: trained[name] for name in run.defence.personal(trained)}
    observation = Observation(
        round=round,
        client=client_name(client),
        sent=sent,
        returned=returned,
        num_examples=len(part),
        recipe=run.recipe,
    )
    return observation, torch.cat(seen) if seen else inputs[used]


def _mean(run: Federation, each: list[Observation]) -> Observation:
    """Return what secure aggregation shows of updates, rounded at random as it rounds them."""
    defence, settings = run.defence, run.settings
    step = 2 * defence.clipping_range / defence.quantization_range  # type: ignore[attr-defined]
    examples = [one.num_examples for one in each]
    draw = generator(settings.seed, "rounding", each[0].round)
    sums: StateDict = {}
    for one in each:
        share = one.num_examples / defence.max_weight  # type: ignore[attr-defined]
        for name, value in one.returned.items():
            levels = value.double() * share / step
            if value.is_floating_point():
                levels = (levels + torch.rand(levels.shape, generator=draw)).floor()
            sums[name] = sums.get(name, torch.zeros_like(levels)) + levels
    scale = step * defence.max_weight / sum(examples)  # type: ignore[attr-defined]
    return dataclasses.replace(
        each[0],
        client=AGGREGATE,
        returned={name: (scale * s).to(each[0].returned[name].dtype) for name, s in sums.items()},
        num_examples=sum(examples),
        view="aggregate",
        members={one.client: one.num_examples for one in each},
    )


def _copied(state: StateDict) -> StateDict:
    return {name: value.detach().cpu().clone() for name, value in state.items()}
