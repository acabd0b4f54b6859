"""Weight deltas of several local steps: what each reading makes of the true images."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from adversary import ObservationError, ThreatModel, TrainingRecipe
from adversary.attacks import DLG, ING, AttackOptionError
from adversary.observation.channel import Channel
from adversary.optim.distances import squared_distance
from adversary.problem.problem import build_problem
from adversary.problem.update_models import (
    UPDATE_MODELS,
    Surrogate,
    assumed_batches,
    before_step,
    can_be_undone,
    local_training,
    select,
    unrolled,
)
from tests.helpers.batches import smooth_batch, trained


def posed(tiny_net, update, recipe, *, images=4, channel=None, norm=False, dtype=torch.float64):
    model = tiny_net(norm=norm)
    x = torch.rand(images, 1, 8, 8, generator=torch.Generator().manual_seed(images))
    y = torch.arange(images) % 3
    seen = update(model.double(), x.double(), y, recipe)
    threat = ThreatModel(labels=y, channel=channel or Channel())
    problem = build_problem(seen, threat, model, image_shape=(1, 8, 8), dtype=dtype)
    return problem, x.to(dtype), problem.targets(y)


RECIPES = [
    TrainingRecipe(lr=0.5, batch_size=1),
    TrainingRecipe(lr=0.5, batch_size=2, momentum=0.9, weight_decay=0.01),
    TrainingRecipe(lr=0.3, batch_size=3, local_epochs=2),  # a last batch of one image
    TrainingRecipe(lr=0.3, batch_size=1, max_steps=3),
]


FULL_RECIPES = [
    TrainingRecipe(lr=0.5, batch_size=1, schedule="cosine", momentum=0.9, weight_decay=0.01),
    TrainingRecipe(
        lr=0.5, batch_size=2, local_epochs=3, schedule="step", decay=0.3, decay_every=2,
        proximal_mu=0.5,
    ),
    TrainingRecipe(lr=0.3, batch_size=3, local_epochs=2, drop_last=True),
    TrainingRecipe(lr=0.3, batch_size=2, class_weights=(0.5, 1.0, 4.0), momentum=0.5),
    TrainingRecipe(lr=0.01, batch_size=2, optimizer="adam", local_epochs=2),
    TrainingRecipe(
        lr=0.01, batch_size=1, optimizer="adam", weight_decay=0.1, schedule="cosine",
        proximal_mu=0.5,
    ),
]  # fmt: skip


@pytest.mark.parametrize("recipe", [*RECIPES, *FULL_RECIPES])
@pytest.mark.parametrize("norm", [False, True])
def test_unrolled_training_is_that_of_torch_s_optimisers(tiny_net, update, recipe, norm):
    problem, x, y = posed(tiny_net, update, recipe, images=4, norm=norm and recipe.batch_size == 2)
    used = problem.observation.images
    found = unrolled(problem, problem.parameters, x[:used], y[:used])
    for name, value in problem.gradient.items():
        # Adam divides by its epsilon what should cancel, as of a bias before batch normalisation.
        atol = 1e-8 if recipe.optimizer == "adam" else 1e-11
        torch.testing.assert_close(found[name], value, rtol=1e-7, atol=atol)


@pytest.mark.parametrize("recipe", [RECIPES[1], FULL_RECIPES[0]])
def test_candidates_together_are_each_alone(tiny_net, update, recipe):
    problem, x, y = posed(tiny_net, update, recipe)
    candidates = torch.stack([x, x.flip(0), torch.rand_like(x)])
    for name, cls in UPDATE_MODELS.items():
        reading = cls()
        more = reading.variables(problem, 3)
        together = reading.gradients(problem, {"images": candidates, **more}, y.expand(3, -1, -1))
        for r in range(3):
            one = {"images": candidates[r : r + 1]} | {k: v[r : r + 1] for k, v in more.items()}
            alone = reading.gradients(problem, one, y[None])
            for key, value in alone.items():
                torch.testing.assert_close(together[key][r], value[0], rtol=1e-8, atol=1e-12,
                                           msg=name)  # fmt: skip


@pytest.mark.parametrize("steps", [2, 4])
def test_the_further_a_reading_looks_the_less_is_left_unexplained(tiny_net, update, steps):
    recipe = TrainingRecipe(lr=0.05, batch_size=2, local_epochs=steps)
    problem, x, y = posed(tiny_net, update, recipe, images=2)
    left = {}
    for name, cls in UPDATE_MODELS.items():
        variables = {"images": x[None], **cls().variables(problem, 1)}
        found = cls().gradients(problem, variables, y[None])
        left[name] = squared_distance(found, problem.gradient).item()
    assert left["unrolled"] < 1e-12 < left["surrogate"] < left["one-gradient"]


def test_all_readings_are_differentiable_in_all_they_optimise(tiny_net, update):
    problem, x, y = posed(tiny_net, update, RECIPES[0], images=2)
    for cls in UPDATE_MODELS.values():
        variables = {"images": x[None].clone(), **cls().variables(problem, 1)}
        names = list(variables)

        def distance(*values, cls=cls, names=names):
            found = cls().gradients(problem, dict(zip(names, values, strict=True)), y[None])
            return squared_distance(found, problem.gradient)

        leaves = tuple(v.requires_grad_() for v in variables.values())
        assert torch.autograd.gradcheck(distance, leaves)


@pytest.mark.parametrize(
    ("name", "recipe", "view", "chosen"),
    [
        ("auto", TrainingRecipe(lr=1, batch_size=4), "client", "one-gradient"),
        ("unrolled", TrainingRecipe(lr=1, batch_size=4), "client", "one-gradient"),
        ("auto", TrainingRecipe(lr=1, batch_size=2), "client", "unrolled"),
        ("surrogate", TrainingRecipe(lr=1, batch_size=2), "client", "surrogate"),
        ("auto", TrainingRecipe(lr=1, batch_size=1, local_epochs=10), "client", "surrogate"),
        ("auto", TrainingRecipe(lr=1, batch_size=1, local_epochs=4), "client", "unrolled"),
        (
            "auto",
            TrainingRecipe(lr=1, batch_size=1, local_epochs=5, max_steps=17),
            "client",
            "surrogate",
        ),
        ("auto", TrainingRecipe(lr=1, batch_size=2), "aggregate", "one-gradient"),
        ("auto", TrainingRecipe(lr=1, batch_size=4, optimizer="adam"), "client", "one-gradient"),
        (
            "auto",
            TrainingRecipe(lr=1, batch_size=1, local_epochs=10, optimizer="adam"),
            "client",
            "unrolled",
        ),
    ],
)
def test_which_reading_is_chosen(tiny_net, update, name, recipe, view, chosen):
    problem, _, _ = posed(tiny_net, update, TrainingRecipe(lr=1, batch_size=4))
    seen = problem.observation
    seen = type(seen)(**{**vars(seen), "recipe": recipe, "view": view})
    assert select(name, seen).name == chosen


def test_images_are_in_the_order_of_their_first_use(tiny_net, update):
    problem, _, _ = posed(tiny_net, update, TrainingRecipe(lr=1, batch_size=3, local_epochs=2))
    assert [b.tolist() for b in assumed_batches(problem.observation)] == [
        [0, 1, 2], [3], [0, 1, 2], [3]
    ]  # fmt: skip


def test_the_position_stays_on_the_line(tiny_net, update):
    variables = {"position": torch.tensor([-1.0, 0.3, 7.0])}
    Surrogate().project(variables)
    assert variables["position"].tolist() == pytest.approx([0, 0.3, 1])


@pytest.mark.parametrize("reading", UPDATE_MODELS)
@pytest.mark.parametrize("attack", [DLG, ING])
def test_attacks_say_how_they_read_several_steps(tiny_net, update, attack, reading):
    problem, _, _ = posed(tiny_net, update, RECIPES[0], images=2)
    found = attack(iterations=2, reading=reading).run(problem)
    assert found.notes == (f"2 local steps, {reading} reading",)
    assert math.isfinite(found.score)


def test_unrolling_gains_where_the_weights_move(tiny_net, update):
    problem, x, _ = posed(tiny_net, update, TrainingRecipe(lr=3.0, batch_size=1), images=2)
    errors = {}
    for reading in UPDATE_MODELS:
        found = DLG(iterations=150, reading=reading).run(problem).images
        pairs = ((found - x.float()), (found.flip(0) - x.float()))
        errors[reading] = min(float(d.square().mean()) for d in pairs)
    assert errors["unrolled"] < 1e-2 * errors["one-gradient"]


def test_an_unknown_reading_is_named():
    with pytest.raises(AttackOptionError, match="dlg.reading = 'magic': must be one of auto, one"):
        DLG(reading="magic")


def test_several_steps_of_adam_are_unrolled_or_refused(tiny_net, update):
    recipe = TrainingRecipe(lr=0.01, batch_size=1, optimizer="adam")
    problem, _, _ = posed(tiny_net, update, recipe, images=2)
    message = "adversary.reading = 'surrogate': 2 local steps of Adam are no sum of gradients"
    with pytest.raises(ObservationError, match=message):
        select("surrogate", problem.observation)
    found = DLG(iterations=2).run(problem)
    assert found.notes[0] == "2 local steps, unrolled reading"
    assert found.notes[1].startswith("Adam clients: ")


def test_a_step_is_undone():
    images, labels = smooth_batch(3, 1)
    problem = trained(images, labels)
    assert can_be_undone(problem)
    x, targets = images.double(), problem.targets(labels)
    steps = [(x[i : i + 1], targets[i : i + 1]) for i in range(2)]
    before = local_training(problem, problem.parameters, steps)
    seen, lr = problem.observation, problem.observation.recipe.lr
    after = {n: seen.returned[n].double() for n in before}
    found = before_step(problem, after, x[2:], targets[2:], lr)
    for name, weights in before.items():
        torch.testing.assert_close(found[name], weights, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("recipe", [{"momentum": 0.5}, {"weight_decay": 0.1}, {"proximal_mu": 0.1}])
def test_steps_that_depend_on_earlier_ones_are_not_undone(recipe):
    assert not can_be_undone(trained(*smooth_batch(2), **recipe))


def test_nothing_is_undone_from_noisy_weights():
    problem = trained(*smooth_batch(2))
    channel = Channel(noise=dict.fromkeys(problem.gradient, 0.1))
    threat = dataclasses.replace(problem.threat, channel=channel)
    assert not can_be_undone(dataclasses.replace(problem, threat=threat))
