"""Larger batches and more steps change the recipe, and what an update holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adversary.observation.recipe import TrainingRecipe
from fl_sim.defences import create
from fl_sim.federation import build_federation
from fl_sim.settings.rules import SettingsError

recipes = st.builds(
    TrainingRecipe,
    lr=st.just(0.1),
    batch_size=st.integers(1, 5),
    local_epochs=st.integers(1, 3),
    max_steps=st.integers(0, 4),
)


@given(recipes, st.integers(1, 5), st.integers(5, 40))
def test_steps_are_exactly_multiplied(recipe, factor, images):
    changed = create("more-steps", {"factor": str(factor)}).recipe(recipe)
    assert changed.steps(images) == factor * recipe.steps(images)
    assert (changed.lr, changed.batch_size) == (recipe.lr, recipe.batch_size)
    assert changed.images(images) >= recipe.images(images)


@given(recipes, st.integers(1, 5))
def test_the_batch_is_multiplied_and_steps_never_grow(recipe, factor):
    changed = create("large-batch", {"factor": str(factor)}).recipe(recipe)
    assert changed.batch_size == factor * recipe.batch_size
    assert changed.steps(40) <= recipe.steps(40)
    assert (changed.lr, changed.local_epochs) == (recipe.lr, recipe.local_epochs)


def test_clients_train_on_the_larger_batch(quick):
    run = build_federation(quick(defence__name="large-batch", defence__options="factor=2"), 3)
    assert [len(b) for b in run.batches(1, 0)] == [4]
    steps = build_federation(quick(defence__name="more-steps", defence__options="factor=2"), 3)
    assert [len(b) for b in steps.batches(1, 0)] == [2, 2]


def test_a_batch_larger_than_a_client_names_the_defence(quick):
    settings = quick(defence__name="large-batch", defence__options="factor=9")
    message = (
        r"^defence.name = 'large-batch': makes local.batch-size = 2 one of 18, and client-\d\d of "
        r"3 has only \d+ images; must make it <= \d+, or take fewer clients$"
    )
    with pytest.raises(SettingsError, match=message):
        build_federation(settings, 3)
