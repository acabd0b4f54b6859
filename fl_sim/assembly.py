"""From settings to the parts of a run: data, model, recipe, defence, adversary, ledger.

Server, clients and ``fl-sim attack`` build the same parts from the same settings, here. Nothing
of Flower or Ray is imported.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import cast

import numpy as np
import torch
from torch import Tensor

from adversary.adversary import Adversary
from adversary.bounds import Bound
from adversary.channel import Channel
from adversary.evaluation import Blends, Truth
from adversary.observation import Loss, Observation, TrainingRecipe
from adversary.priors import Prior
from adversary.report.ledger import Ledger, Listener
from adversary.report.run_folder import RunFolder
from adversary.scorer import Scorer
from adversary.seeding import derive_seed, generator
from adversary.threat import ThreatModel
from fl_sim import attacker, data, defences, models, normalisation, pretrained
from fl_sim.data import Splits, XrayDataset
from fl_sim.defences import Defence
from fl_sim.freezing import freeze
from fl_sim.models import Classifier
from fl_sim.privacy import Account
from fl_sim.settings import Settings, SettingsError, parse_options, split
from fl_sim.training import TrainingError, balanced, both_kinds_of, recipe_from
from fl_sim.truth import client_name, truth_of


@dataclass(frozen=True, kw_only=True, eq=False)
class Assembly:
    """The parts of a run; made by :func:`assemble`.

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
        plain = models.create(
            settings.model.name,
            channels=settings.data.channels,
            image_size=settings.data.image_size,
            outputs=_outputs(self.splits.private, settings),
            activation=settings.model.activation,
            norm=settings.model.norm,
            seed=derive_seed(settings.seed, "model"),
        )
        pretrained.start_from(settings.model.weights, settings.model.name, plain)
        normalisation.apply(plain, settings.model.mean, settings.model.std, settings.data.channels)
        return freeze(self.defence.model(plain), settings.local.freeze)

    def batches(self, round: int, client: int) -> list[Tensor]:
        """Return the mini-batches of a client's round, as indices into its X-rays."""
        seed, examples = self.settings.seed, len(self.parts[client])
        return self.defence.batches(examples, self.recipe, seed=seed, round=round, client=client)

    @property
    def trained(self) -> int:
        """How many clients the server asks to train in a round."""
        return max(1, round(self.settings.strategy.fraction * len(self.parts)))

    def account(self, client: int, rounds: int) -> Account | None:
        """Return what a client has spent after it took part in ``rounds`` rounds, if accounted."""
        return self.defence.account(
            self.recipe,
            num_examples=len(self.parts[client]),
            clients=self.trained,
            rounds=rounds,
        )

    def used(self, round: int, client: int) -> list[int]:
        """Return the distinct X-rays of a client's round, in the order of their first use."""
        batches = self.batches(round, client)
        return list(dict.fromkeys(torch.cat(batches).tolist())) if batches else []

    def inputs(self, round: int, client: int) -> Tensor:
        """Return a client's X-rays (N, C, H, W) as the network sees them in a round."""
        part = self.parts[client]
        return self.defence.inputs(
            part.tensor(range(len(part))),
            generator=generator(self.settings.seed, "inputs", round, client),
        )

    def blends(self, round: int, client: int) -> Blends | None:
        """Return what the network saw of a client's X-rays in a round, where that is blends."""
        return self.defence.blends(
            self.inputs(round, client),
            self.parts[client].labels,
            self.recipe,
            self.batches(round, client),
            outputs=_outputs(self.splits.private, self.settings),
            generator=generator(self.settings.seed, "defended training", round, client),
        )

    @property
    def evaluated_on(self) -> str:
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
        return truth_of(self, observation)

    def threat(self, observation: Observation) -> ThreatModel:
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

    def attacked(self, round: int, clients: Sequence[str]) -> list[str]:
        """Return which of the clients that train in a round are attacked, drawn by the seed."""
        wanted = self.settings.adversary
        if (round - 1) % wanted.every:
            return []
        draw = generator(self.settings.seed, "attacked", round)
        order = torch.randperm(len(clients), generator=draw).tolist()
        return sorted(clients[i] for i in order[: wanted.clients or None])

    @cached_property
    def _first_model(self) -> Classifier:
        return self.model()

    def bound(self) -> Callable[[Observation, Truth], Bound] | None:
        """Return what finds the bound on an update, for scoring alone; None where it is off."""
        return attacker.bounded(
            self.settings, self._first_model, self.prior(), self.defence.channel
        )

    def adversary(self) -> Adversary:
        """Return the adversary that the settings describe."""
        chosen = min(self.settings.adversary.clients or self.trained, self.trained)
        updates = 2 if self.defence.secure_aggregation else chosen  # the mean, and a masked one
        return attacker.adversary(self.settings, self._first_model, self.prior(), updates=updates)

    def ledger(
        self, folder: RunFolder, listeners: Sequence[Listener] = (), *, record: bool
    ) -> Ledger:
        """Return the ledger that writes to ``folder``, updates as well if it is to record them."""
        return Ledger(folder, scorer=self.scorer(), record=record, listeners=listeners)

    def scorer(self) -> Scorer:
        """Return what scores reconstructions; it holds the private X-rays."""
        return Scorer(
            truth=self.truth,
            prior=self.prior(),
            candidates=self.candidates(),
            bound=self.bound(),
            threads=self.settings.adversary.num_cpus,
        )


@lru_cache(maxsize=2)
def assemble(settings: Settings, clients: int) -> Assembly:
    """Build the parts of a run with that many clients; the last ones are kept.

    Raises
    ------
    ValueError
        One line for what does not fit together: data, clients, batch size, model, device,
        attack or defence.
    """
    settings = dataclasses.replace(settings, clients=clients)
    device = attacker.device(settings)
    defence = defences.create(
        settings.defence.name, parse_options(settings.defence.options, "defence.options")
    )
    splits = _load(settings)
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
    _check_monitor(settings, defence, validation)
    weights = _class_weights(settings, defence, splits.private, training)
    recipe = defence.recipe(dataclasses.replace(recipe_from(settings), class_weights=weights))
    _check_optimizer(recipe)
    _check_batch_size(settings, defence, recipe, training)
    return Assembly(
        settings=settings,
        splits=splits,
        parts=tuple(training),
        validation=tuple(validation),
        recipe=recipe,
        defence=defence,
        device=device,
    )


def _load(settings: Settings) -> Splits:
    wanted = settings.data
    return data.load(
        wanted.name,
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


def _outputs(dataset: XrayDataset, settings: Settings) -> int:
    """Return the number of outputs that labels and loss ask for."""
    classes, loss = len(dataset.label_names), settings.model.loss
    several = dataset.labels.ndim == 2
    if several and loss != "bce":
        raise SettingsError(
            f"model.loss = {loss!r}: {dataset.name} has several labels an image; must be bce"
        )
    if not several and loss == "bce":
        if classes != 2:
            raise SettingsError(
                f"model.loss = 'bce': {dataset.name} has {classes} classes, one an image; "
                "must be cross-entropy"
            )
        return 1
    return classes


def _class_weights(
    settings: Settings, defence: Defence, private: XrayDataset, parts: Sequence[XrayDataset]
) -> tuple[float, ...]:
    """Return the weights of the classes that the server prescribes; empty for none."""
    wanted, outputs = settings.model.class_weights, _outputs(private, settings)
    if wanted == "balanced" and not defence.reports_losses:
        raise SettingsError(
            f"model.class-weights = 'balanced': with defence.name = '{settings.defence.name}' "
            "clients tell no counts of labels, which no account covers; must be numbers"
        )
    if wanted == "balanced":
        labels = torch.cat([part.labels for part in parts])
        return balanced(labels, cast(Loss, settings.model.loss), outputs)
    try:
        weights = tuple(float(weight) for weight in split(wanted))
    except ValueError:
        weights = (math.nan,)
    if weights and (len(weights) != outputs or not all(0 < w < math.inf for w in weights)):
        names = ", ".join(private.label_names[-outputs:])
        raise SettingsError(
            f"model.class-weights = {wanted!r}: must be balanced, empty, or {outputs} "
            f"comma-separated numbers > 0 ({names})"
        )
    return weights


def _check_optimizer(recipe: TrainingRecipe) -> None:
    if recipe.momentum and recipe.optimizer != "sgd":
        raise SettingsError(
            f"local.momentum = {recipe.momentum}: is of SGD; must be 0 with local.optimizer = "
            f"'{recipe.optimizer}'"
        )


def _check_monitor(settings: Settings, defence: Defence, validation: Sequence[XrayDataset]) -> None:
    """Make sure that the figure that pace goes by can be had, before the first round."""
    if settings.data.validation_fraction and not any(map(len, validation)):
        raise SettingsError(
            f"data.validation-fraction = {settings.data.validation_fraction}: leaves no client a "
            "patient to validate on; must be larger, or take fewer clients"
        )
    wanted = {
        "strategy.stop-patience": settings.strategy.stop_patience,
        "strategy.plateau-patience": settings.strategy.plateau_patience,
    }
    for name, patience in wanted.items():
        if not patience:
            continue
        if not defence.reports_losses:
            raise SettingsError(
                f"{name} = {patience}: with defence.name = '{settings.defence.name}' clients "
                "report no figures to go by; must be 0"
            )
        if not settings.data.validation_fraction:
            raise SettingsError(
                f"{name} = {patience}: needs data.validation-fraction > 0, X-rays that no client "
                "trains on"
            )
        if not settings.strategy.evaluate_fraction:
            raise SettingsError(
                f"{name} = {patience}: needs strategy.evaluate-fraction > 0, clients that evaluate"
            )
        if settings.strategy.monitor == "auc" and not any(
            both_kinds_of(part.labels) for part in validation
        ):
            raise SettingsError(
                "strategy.monitor = 'auc': no client has X-rays with and without a label to "
                "validate on; must be loss, or take a larger data.validation-fraction"
            )


def _sizes(settings: Settings) -> list[int]:
    """Return how many images each client is to have; empty where a partition decides."""
    try:
        return [int(part) for part in split(settings.data.sizes)]
    except ValueError:
        raise SettingsError(
            f"data.sizes = {settings.data.sizes!r}: must be whole numbers, one a client, "
            "comma-separated"
        ) from None


def _check_batch_size(
    settings: Settings, defence: Defence, recipe: TrainingRecipe, parts: Sequence[XrayDataset]
) -> None:
    """Refuse mini-batches that no client can fill, or one cannot where all must be full."""
    counts = [len(part) for part in parts]
    client = int(np.argmin(counts) if recipe.drop_last else np.argmax(counts))
    images, asked = counts[client], settings.local.batch_size
    has = f"{client_name(client)} of {len(parts)} has only {images} images"
    if asked > images:
        raise SettingsError(
            f"local.batch-size = {asked}: {has}; must be <= {images}, or take fewer clients"
        )
    if recipe.batch_size > images:
        raise SettingsError(
            f"defence.options: {settings.defence.name} makes local.batch-size = {asked} one of "
            f"{recipe.batch_size}, and {has}; must make it <= {images}, or take fewer clients"
        )
    smallest = int(np.argmin(counts))
    try:
        defence.batches(counts[smallest], recipe, seed=settings.seed, round=1, client=smallest)
    except TrainingError as error:
        raise SettingsError(str(error)) from error
