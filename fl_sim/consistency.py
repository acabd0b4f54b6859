"""Settings that do not fit together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch

from adversary.common.types import StateDict
from adversary.observation.recipe import Loss, TrainingRecipe
from fl_sim.client_names import client_name
from fl_sim.data import XrayDataset
from fl_sim.defences import Defence
from fl_sim.settings.rules import SettingsError, split_list
from fl_sim.settings.schema import Settings
from fl_sim.training.evaluation import any_class_has_both
from fl_sim.training.local_training import TrainingError, balanced_class_weights
from strategies.registry import STRATEGIES, fewest_replies


def num_outputs(dataset: XrayDataset, settings: Settings) -> int:
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


def class_weights(
    settings: Settings, defence: Defence, private: XrayDataset, parts: Sequence[XrayDataset]
) -> tuple[float, ...]:
    """Return the weights of the classes that the server prescribes; empty for none."""
    wanted, outputs = settings.model.class_weights, num_outputs(private, settings)
    if wanted == "balanced" and not defence.reports_losses:
        raise SettingsError(
            f"model.class-weights = 'balanced': with defence.name = '{settings.defence.name}' "
            "clients tell no counts of labels, which no account covers; must be numbers"
        )
    if wanted == "balanced":
        labels = torch.cat([part.labels for part in parts])
        return balanced_class_weights(labels, cast(Loss, settings.model.loss), outputs)
    try:
        weights = tuple(float(weight) for weight in split_list(wanted))
    except ValueError:
        weights = (math.nan,)
    if weights and (len(weights) != outputs or not all(0 < w < math.inf for w in weights)):
        names = ", ".join(private.label_names[-outputs:])
        raise SettingsError(
            f"model.class-weights = {wanted!r}: must be balanced, empty, or {outputs} "
            f"comma-separated numbers > 0 ({names})"
        )
    return weights


def check_optimizer(recipe: TrainingRecipe) -> None:
    """Raise SettingsError for momentum with an optimiser that has none."""
    if recipe.momentum and recipe.optimizer != "sgd":
        raise SettingsError(
            f"local.momentum = {recipe.momentum}: is of SGD; must be 0 with local.optimizer = "
            f"'{recipe.optimizer}'"
        )


def check_strategy(settings: Settings, defence: Defence, clients: int) -> None:
    """Refuse a strategy that could not aggregate what ``clients`` a round send it."""
    wanted = settings.strategy
    entry, named = STRATEGIES[wanted.name], f"strategy.name = {wanted.name!r}"
    fewest = fewest_replies(wanted.name, wanted.options)
    if clients < fewest:
        raise SettingsError(
            f"{named}: needs {fewest} clients a round, and {clients} train; take more, or a lower "
            "strategy.num-malicious-nodes"
        )
    if entry.needs_losses and not defence.reports_losses:
        raise SettingsError(
            f"{named}: weighs clients by their losses, which they do not report with "
            f"defence.name = {settings.defence.name!r}"
        )


def check_arrays(settings: Settings, arrays: StateDict) -> None:
    """Refuse a strategy that cannot do with whole numbers where clients return some."""
    name = settings.strategy.name
    whole = [key for key, value in arrays.items() if not value.is_floating_point()]
    if whole and not STRATEGIES[name].whole_numbers:
        raise SettingsError(
            f"strategy.name = {name!r}: cannot aggregate whole numbers such as {whole[0]}; take "
            "model.norm = 'group', or another strategy"
        )


def check_monitor(settings: Settings, defence: Defence, validation: Sequence[XrayDataset]) -> None:
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
            any_class_has_both(part.labels) for part in validation
        ):
            raise SettingsError(
                "strategy.monitor = 'auc': no client has X-rays with and without a label to "
                "validate on; must be loss, or take a larger data.validation-fraction"
            )


def check_smallest_client(
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
            f"defence.name = '{settings.defence.name}': makes local.batch-size = {asked} one of "
            f"{recipe.batch_size}, and {has}; must make it <= {images}, or take fewer clients"
        )
    smallest = int(np.argmin(counts))
    try:
        defence.batches(counts[smallest], recipe, seed=settings.seed, round=1, client=smallest)
    except TrainingError as error:
        raise SettingsError(str(error)) from error
