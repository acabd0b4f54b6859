from __future__ import annotations

import pytest
import torch

from adversary import TrainingRecipe
from adversary.observation.threat_model import ThreatModel
from adversary.problem.problem import build_problem
from adversary.problem.weight_path import interpolated_weights, step_positions


def observed(tiny_net, update, recipe, steps=4):
    images = torch.rand(steps, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    model = tiny_net()
    return model, update(model, images, torch.arange(steps) % 3, recipe)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_positions_are_where_like_gradients_lead(tiny_net, update, momentum, schedule, steps):
    recipe = TrainingRecipe(lr=0.1, batch_size=1, momentum=momentum, schedule=schedule)
    _, seen = observed(tiny_net, update, recipe, steps)
    weight = torch.zeros((), dtype=torch.float64, requires_grad=True)
    sgd = torch.optim.SGD([weight], lr=1.0, momentum=momentum)
    places = []
    for rate in recipe.rates(steps):
        places.append(weight.item())
        sgd.param_groups[0]["lr"] = rate
        weight.grad = torch.ones_like(weight)
        sgd.step()
    assert step_positions(seen) == pytest.approx([at / weight.item() for at in places])


def test_steps_of_adam_are_alike(tiny_net, update):
    recipe = TrainingRecipe(lr=0.01, batch_size=1, optimizer="adam")
    _, seen = observed(tiny_net, update, recipe)
    assert step_positions(seen) == pytest.approx([0, 0.25, 0.5, 0.75], abs=1e-6)


def test_the_line_leads_from_the_weights_sent_to_those_returned(tiny_net, update):
    model, seen = observed(tiny_net, update, TrainingRecipe(lr=0.1, batch_size=1))
    problem = build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8))
    for position in (0.0, 0.3, 1.0):
        for name, found in interpolated_weights(problem, torch.tensor(position)).items():
            start, end = seen.sent[name], seen.returned[name]
            torch.testing.assert_close(found, (1 - position) * start + position * end)
