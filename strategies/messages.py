"""What the server tells clients of their training, along with the model."""

from __future__ import annotations

import dataclasses

from flwr.app import ConfigRecord

from adversary.observation.recipe import TrainingRecipe

LEARNING_RATE, PROXIMAL_MU = "lr", "proximal-mu"
"""Keys of a train message's config: the round's learning rate, and FedProx's mu (Flower's key)."""

LEARNING_RATES = (LEARNING_RATE, "learning-rate", "learning_rate")
"""The keys by which apps send a round's learning rate."""


def recipe_from_config(recipe: TrainingRecipe, config: ConfigRecord) -> TrainingRecipe:
    """Return the recipe of a round: ``recipe`` with what ``config`` says in place of its own."""
    return dataclasses.replace(
        recipe,
        lr=next((_number(config, key, recipe.lr) for key in rate_keys(config)), recipe.lr),
        proximal_mu=_number(config, PROXIMAL_MU, recipe.proximal_mu),
    )


def rate_keys(config: ConfigRecord) -> list[str]:
    """Return the keys by which a config tells the learning rate."""
    return [key for key in LEARNING_RATES if isinstance(config.get(key), int | float)]


def _number(config: ConfigRecord, key: str, default: float) -> float:
    value = config.get(key, default)
    return float(value) if isinstance(value, int | float) else default
