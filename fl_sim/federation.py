"""From settings to the parts of a run: data, model, recipe, defence, adversary, ledger.

Server, clients and ``fl-sim attack`` build the same parts from the same settings, here. Nothing
of Flower or Ray is imported. What attacks, scores and reports is imported where it is made: it
takes longer to load than the rest, and no client's process needs it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from adversary.common.seeding import derive_seed, generator
from adversary.common.truth import Blends, Truth
from adversary.observation.channel import Channel
from adversary.observation.observation import Observation
from adversary.observation.recipe import Loss, Optimizer, TrainingRecipe
from adversary.observation.threat_model import ThreatModel
from adversary.priors.public import Prior
from fl_sim import data, defences, models
from fl_sim.client_names import client_number
from fl_sim.consistency import (
    check_arrays,
    check_monitor,
    check_optimizer,
    check_smallest_client,
    check_strategy,
    class_weights,
    num_outputs,
)
from fl_sim.data import Splits, XrayDataset
from fl_sim.data.sources.base import DatasetRequest
from fl_sim.defences import Defence
from fl_sim.defences.accounting import PrivacySpent
from fl_sim.models import Classifier, normalisation, pretrained
from fl_sim.models.freezing import freeze, trainable_state_dict
from fl_sim.settings.derived import device, image_shape
from fl_sim.settings.rules import SettingsError, split_list
from fl_sim.settings.schema import Settings
from strategies import registry

if TYPE_CHECKING:
    from flwr.serverapp.strategy import Strategy

    from adversary.attacks.adversary import Adversary
    from adversary.bounds.cramer_rao import BoundResult
    from adversary.report.ledger import Ledger, RunListener
    from adversary.scoring.scorer import Scorer
    from adversary.storage.run_folder import RunFolder
    from fl_sim.galleries import Galleries, GivenCandidates


@dataclass(frozen=True, kw_only=True, eq=False)
class Federation:
    """The parts of a run; made by :func:`build_federation`.

    Parameters
    ----------
    settings : Settings
        What all of it follows from; ``clients`` is the real number.
    splits : Splits
        Private, public and test X-rays.
    parts : tuple of XrayDataset
        The private X-rays that each client trains on.
    validation : tuple of XrayDataset
        Those that each validates on; a client may have none, and without a validation share
        they are those that it trains on.
    recipe : TrainingRecipe
        The local training.
    defence : Defence
        What a client does to its update before it leaves.
    device : torch.device
        Where this process computes.
    """

    settings: Settings
    splits: Splits
    parts: tuple[XrayDataset, ...]
    validation: tuple[XrayDataset, ...]
    recipe: TrainingRecipe
    defence: Defence
    device: torch.device

    def model(self) -> Classifier:
        """Return the classifier with its first weights, on the CPU."""
        settings = self.settings
        spec = model_spec(settings, num_outputs(self.splits.private, settings))
        seed = derive_seed(settings.seed, "model")
        plain = models.build(spec, norm=settings.model.norm, seed=seed)
        pretrained.load_pretrained(settings.model.weights, settings.model.name, plain)
        normalisation.apply(plain, settings.model.mean, settings.model.std, settings.data.channels)
        model = freeze(self.defence.model(plain), settings.local.freeze)
        check_arrays(settings, trainable_state_dict(model))
        return model

    def strategy(self) -> Strategy:
        """Return the Flower strategy, without anything around it."""
        wanted = self.settings.strategy
        return registry.create(
            wanted.name,
            clients=len(self.parts),
            fraction=wanted.fraction,
            evaluate_fraction=wanted.evaluate_fraction,
            options=wanted.options,
            settings={
                "proximal_mu": wanted.proximal_mu,
                "client_learning_rate": self.settings.local.lr,
            },
        )

    def batches(self, round: int, client: int) -> list[Tensor]:
        """Return the mini-batches of a client's round, as indices into its X-rays."""
        seed, examples = self.settings.seed, len(self.parts[client])
        return self.defence.batches(examples, self.recipe, seed=seed, round=round, client=client)

    @property
    def clients_per_round(self) -> int:
        """How many clients the server asks to train in a round."""
        return _clients_per_round(self.settings)

    def account(self, client: int, rounds: int) -> PrivacySpent | None:
        """Return what a client has spent after it took part in ``rounds`` rounds, if accounted."""
        return self.defence.account(
            self.recipe,
            num_examples=len(self.parts[client]),
            clients=self.clients_per_round,
            rounds=rounds,
        )

    def used_indices(self, round: int, client: int) -> list[int]:
        """Return the distinct X-rays of a client's round, in the order of their first use."""
        batches = self.batches(round, client)
        return list(dict.fromkeys(torch.cat(batches).tolist())) if batches else []

    def training_inputs(self, round: int, client: int) -> Tensor:
        """Return a client's X-rays (N, C, H, W) as the network sees them in a round."""
        part = self.parts[client]
        return self.defence.inputs(
            part.tensor(range(len(part))),
            generator=generator(self.settings.seed, "inputs", round, client),
        )

    def blends(self, round: int, client: int) -> Blends | None:
        """Return what the network saw of a client's X-rays in a round, where that is blends."""
        return self.defence.blends(
            self.training_inputs(round, client),
            self.parts[client].labels,
            self.recipe,
            self.batches(round, client),
            outputs=num_outputs(self.splits.private, self.settings),
            generator=generator(self.settings.seed, "defended training", round, client),
        )

    @property
    def evaluation_split(self) -> str:
        """Which X-rays the server evaluates on: "test", or "public" where none are held out."""
        return "test" if len(self.splits.test) else "public"

    def evaluation_set(self) -> XrayDataset:
        """Return the X-rays that the server evaluates on; they may be none."""
        return self.splits.test if len(self.splits.test) else self.splits.public

    @cached_property
    def _prior(self) -> Prior | None:
        public = self.splits.public
        if not len(public):
            return None
        return Prior(public.tensor(range(len(public))), public.labels)

    def prior(self) -> Prior | None:
        """Return the public X-rays as the attacker's prior; None where there are none."""
        return self._prior  # one for all: what is learned from it is learned once

    def candidates(self) -> Tensor:
        """Return one private image a patient, (N, C, H, W), among whom to re-identify."""
        private = self.splits.private
        first: dict[str, int] = {}
        for index, patient in enumerate(private.patients):
            first.setdefault(patient, index)
        return private.tensor(list(first.values()))

    def truth(self, observation: Observation) -> Truth | None:
        """Return the images behind an update, for scoring alone; None if they are unknown."""
        return ground_truth(self, observation)

    def threat_model(self, observation: Observation) -> ThreatModel:
        """Return what the attacker knows beyond an observation: the defence, and any oracle."""
        granted = self.settings.adversary
        truth = self.truth(observation) if granted.labels_known else None
        # A random batch may have more or fewer images than the attacker takes it to have; labels
        # that fit no batch of the expected size are of no use to it.
        fits = truth is not None and len(truth.labels) == observation.images
        return ThreatModel(
            labels=truth.labels if truth and fits else None,
            channel=self.defence.channel(observation) if granted.defence_known else Channel(),
        )

    def clients_to_attack(self, round: int, clients: Sequence[str]) -> list[str]:
        """Return which of the clients that train in a round are attacked, drawn by the seed."""
        wanted = self.settings.adversary
        if (round - 1) % wanted.every:
            return []
        draw = generator(self.settings.seed, "attacked", round)
        order = [clients[i] for i in torch.randperm(len(clients), generator=draw).tolist()]
        if wanted.choice == "smallest":
            order.sort(key=self._examples)
        return sorted(order[: wanted.clients or None])

    def _examples(self, client: str) -> float:
        """Return how many X-rays a client trains on, as it tells the server; if it is known."""
        number = client_number(client)
        return math.inf if number is None else len(self.parts[number])

    @cached_property
    def _first_model(self) -> Classifier:
        return self.model()

    def bound(self) -> Callable[[Observation, Truth], BoundResult] | None:
        """Return what finds the bound on an update, for scoring alone; None where it is off."""
        from fl_sim import adversary_setup

        return adversary_setup.make_bound(
            self.settings, self._first_model, self.prior(), self.defence.channel
        )

    def adversary(self) -> Adversary:
        """Return the adversary that the settings describe."""
        from fl_sim import adversary_setup

        chosen = min(
            self.settings.adversary.clients or self.clients_per_round, self.clients_per_round
        )
        # Of an aggregate: the mean, and maybe a masked one.
        updates = 2 if self.defence.view == "aggregate" else chosen
        return adversary_setup.make_adversary(
            self.settings,
            self._first_model,
            self.prior(),
            updates=updates,
            candidates=self.galleries.of,
        )

    @property
    def why_not_identified(self) -> str:
        """Why nobody is looked for in updates, in a line; empty where patients are."""
        from fl_sim import adversary_setup

        if not self.settings.adversary.enabled:
            return "adversary.enabled is off"
        return adversary_setup.why_not_identified(self.settings, self.prior())

    @cached_property
    def galleries(self) -> Galleries | GivenCandidates:
        """Among whom patients are looked for."""
        from fl_sim.galleries import Galleries, GivenCandidates

        wanted = self.settings.adversary.candidates
        return Galleries(self, int(wanted)) if wanted.isdecimal() else GivenCandidates(self, wanted)

    def ledger(
        self, folder: RunFolder, listeners: Sequence[RunListener] = (), *, record: bool
    ) -> Ledger:
        """Return the ledger that writes to ``folder``, updates as well if it is to record them."""
        from adversary.report.ledger import Ledger

        return Ledger(folder, scorer=self.scorer(), record=record, listeners=listeners)

    def scorer(self) -> Scorer:
        """Return what scores reconstructions; it holds the private X-rays."""
        from adversary.scoring.scorer import Scorer

        return Scorer(
            truth=self.truth,
            prior=self.prior(),
            candidates=self.candidates(),
            bound=self.bound(),
            threads=self.settings.adversary.num_cpus,
            patients=self.galleries.patients,
            members_known=self.galleries.members_known,
        )


@lru_cache(maxsize=2)
def build_federation(settings: Settings, clients: int) -> Federation:
    """Build the parts of a run with that many clients; the last ones are kept.

    Raises
    ------
    ValueError
        One line for what does not fit together: data, clients, batch size, model, device,
        attack or defence.
    """
    settings = dataclasses.replace(settings, clients=clients)
    compute_on = device(settings)
    defence = defences.create(settings.defence.name, settings.defence.options)
    splits = data.load_request(dataset_request(settings))
    shares = data.partition(
        splits.private,
        clients,
        method=settings.data.partition,
        alpha=settings.data.alpha,
        seed=settings.seed,
        sizes=_sizes(settings),
    )
    parts = [splits.private.subset(share) for share in shares]
    halves = [
        data.hold_out(part, settings.data.validation_fraction, seed=settings.seed, client=number)
        for number, part in enumerate(parts)
    ]
    training = [part.subset(kept) for part, (kept, _) in zip(parts, halves, strict=True)]
    validation = training
    if settings.data.validation_fraction:
        validation = [part.subset(out) for part, (_, out) in zip(parts, halves, strict=True)]
    defence = defence.prepare(
        rounds=settings.rounds,
        strategy=settings.strategy.name,
        examples=[len(part) for part in training],
    )
    check_monitor(settings, defence, validation)
    check_strategy(settings, defence, _clients_per_round(settings))
    weights = class_weights(settings, defence, splits.private, training)
    recipe = defence.recipe(dataclasses.replace(recipe_from(settings), class_weights=weights))
    check_optimizer(recipe)
    check_smallest_client(settings, defence, recipe, training)
    run = Federation(
        settings=settings,
        splits=splits,
        parts=tuple(training),
        validation=tuple(validation),
        recipe=recipe,
        defence=defence,
        device=compute_on,
    )
    fitted = defence.fitted(run.model, image_shape(settings))
    return run if fitted is defence else dataclasses.replace(run, defence=fitted)


def _clients_per_round(settings: Settings) -> int:
    return max(1, round(settings.strategy.fraction * settings.clients))


def dataset_request(settings: Settings) -> DatasetRequest:
    """Return what the settings ask of their data set."""
    wanted = settings.data
    return DatasetRequest(
        name=wanted.name,
        path=wanted.path,
        image_size=wanted.image_size,
        channels=wanted.channels,
        num_images=wanted.num_images,
        public=wanted.public or None,
        test_fraction=wanted.test_fraction,
        seed=settings.seed,
        labels=wanted.labels,
        uncertain=wanted.uncertain,
        columns=wanted.columns,
        patients=wanted.patients,
        max_value=wanted.max_value,
        on_error=wanted.on_error,
    )


def model_spec(settings: Settings, outputs: int) -> models.Spec:
    """Return which classifier the settings ask for."""
    return models.Spec(
        name=settings.model.name,
        channels=settings.data.channels,
        image_size=settings.data.image_size,
        outputs=outputs,
        activation=settings.model.activation,
    )


def _sizes(settings: Settings) -> list[int]:
    """Return how many images each client is to have; empty where a partition decides."""
    try:
        return [int(part) for part in split_list(settings.data.sizes)]
    except ValueError:
        raise SettingsError(
            f"data.sizes = {settings.data.sizes!r}: must be whole numbers, one a client, "
            "comma-separated"
        ) from None


def ground_truth(run: Federation, observation: Observation) -> Truth | None:
    """Return the ground-truth images of an update in order of first use; None if unknown.

    Those of an aggregate are the images of its members, one after the other. Where the network
    saw blends of them, these are told as well.
    """
    alone = (observation.client,) if observation.view == "client" else ()
    names = tuple(observation.members) or alone
    if not names:
        return None
    numbers = [client_number(name) for name in names]
    images, labels, batches = [], [], []
    files: list[str] = []
    blends: list[Blends] = []
    for number in numbers:
        if number is None or number >= len(run.parts):
            return None
        part, used = run.parts[number], run.used_indices(observation.round, number)
        place = {index: len(files) + i for i, index in enumerate(used)}
        steps = run.batches(observation.round, number)
        batches.append(tuple(torch.tensor([place[i] for i in b.tolist()]).long() for b in steps))
        if (seen := run.blends(observation.round, number)) is not None:
            sources = torch.tensor([[place[i] for i in pair] for pair in seen.sources.tolist()])
            blends.append(dataclasses.replace(seen, sources=sources))
        images.append(run.training_inputs(observation.round, number)[used])
        labels.append(part.labels[used])
        files += [part.names[i] for i in used]
    return Truth(
        images=torch.cat(images),
        labels=torch.cat(labels),
        names=tuple(files),
        batches=tuple(batches),
        blends=_joined(blends) if blends else None,
    )


def _joined(clients: Sequence[Blends]) -> Blends:
    """Return the blends of several clients, one after the other."""
    batches, first = [], 0
    for one in clients:
        batches.append(tuple(first + batch for own in one.batches for batch in own))
        first += len(one.images)
    return Blends(
        images=torch.cat([one.images for one in clients]),
        labels=torch.cat([one.labels for one in clients]),
        sources=torch.cat([one.sources for one in clients]),
        batches=tuple(batches),
    )


def recipe_from(settings: Settings) -> TrainingRecipe:
    """Return the recipe that the server prescribes to its clients."""
    local, model = settings.local, settings.model
    return TrainingRecipe(
        lr=local.lr,
        batch_size=local.batch_size,
        loss=cast(Loss, model.loss),
        local_epochs=local.epochs,
        max_steps=local.max_steps,
        momentum=local.momentum,
        weight_decay=local.weight_decay,
        batch_norm="eval" if model.batch_norm == "eval" else "train",
        optimizer=cast(Optimizer, local.optimizer),
        drop_last=local.drop_last,
        schedule=local.schedule if local.schedule_over == "steps" else "constant",
        decay=local.decay,
        decay_every=local.decay_every,
    )
