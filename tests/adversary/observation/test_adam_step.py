"""What one step of Adam gives away, against torch's optimiser and the true gradient."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from adversary import ObservationError, ThreatModel, TrainingRecipe
from adversary.attacks import DLG, AttackError, EncGradInversion
from adversary.labels.recovery import labels_from_signs, recover
from adversary.observation.adam_step import (
    RESOLVED_ERROR,
    error_amplification,
    gradient_from_adam_step,
    largest_resolved_gradient,
)
from adversary.observation.channel import Channel
from adversary.problem.problem import build_problem
from adversary.problem.residuals import residuals

RECIPE = TrainingRecipe(lr=1e-3, batch_size=1, optimizer="adam")


def first_steps(gradient, lr, weight, dtype):
    """Return (w - w') / lr of one step of torch's Adam, and the error of an entry of it."""
    w = torch.full_like(gradient, weight, dtype=dtype).requires_grad_()
    optimiser = torch.optim.Adam([w], lr=lr)
    before = w.detach().double().clone()
    w.grad = gradient.to(dtype)
    optimiser.step()
    error = torch.finfo(dtype).eps / 12**0.5 * weight / lr
    return {"w": (before - w.detach().double()) / lr}, {"w": error}


def spread(seed=0):
    """Return a gradient with entries of all sizes, of both signs."""
    draw = torch.Generator().manual_seed(seed)
    size = 10 ** (12 * torch.rand(4000, generator=draw, dtype=torch.float64) - 11)
    return size * torch.where(torch.rand(4000, generator=draw) < 0.5, -1, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("lr", "weight"), [(1e-3, 0.05), (1e-2, 0.5), (1e-4, 1.0)])
def test_small_entries_are_told_and_large_ones_bounded(lr, weight, dtype):
    gradient = spread()
    steps, errors = first_steps(gradient, lr, weight, dtype)
    found, beyond = gradient_from_adam_step(steps, errors)
    told = beyond["w"] == 0
    assert 0.1 < float(told.double().mean()) < 0.9
    # An entry is off by its slope times the error; three standard deviations of a uniform error.
    error = (found["w"] - gradient).abs()[told]
    arithmetic = 3 * torch.finfo(dtype).eps
    allowed = (gradient.abs() + 1e-8) ** 2 / 1e-8 * (3 * errors["w"] + arithmetic)
    assert bool((error <= allowed[told]).all())
    large = gradient[~told]
    assert torch.equal(beyond["w"][~told].sign(), large.sign())
    assert bool(
        (large.abs() >= (1 - 3 * RESOLVED_ERROR) * largest_resolved_gradient(errors["w"])).all()
    )


def test_the_slope_is_the_derivative_of_the_way_back():
    for size in (1e-10, 1e-8, 1e-5):
        r = torch.tensor(size / (size + 1e-8), dtype=torch.float64, requires_grad=True)
        (1e-8 * r / (1 - r)).backward()
        assert error_amplification(size) == pytest.approx(float(r.grad), rel=1e-6)


def posed(tiny_net, update, recipe=RECIPE, *, images=1, outputs=3, dtype=torch.float64):
    model = tiny_net(outputs=outputs).to(dtype)
    x = torch.rand(images, 1, 8, 8, generator=torch.Generator().manual_seed(3)).to(dtype)
    y = torch.arange(images) % 3
    seen = update(model, x, y, recipe)
    problem = build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8), dtype=dtype)
    return problem, x, y


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_true_image_explains_the_step(tiny_net, update, weight_decay, dtype):
    recipe = dataclasses.replace(RECIPE, weight_decay=weight_decay)
    problem, x, y = posed(tiny_net, update, recipe, dtype=dtype)
    found = problem.gradients(x[None], problem.targets(y)[None])
    for name, wanted in problem.gradient.items():
        assert float((found[name][0] - wanted).detach().abs().max()) < 5 * problem.sigma(name)
    other = problem.gradients(1 - x[None], problem.targets(y)[None])
    apart = [
        float((other[n][0] - g).detach().abs().max()) / problem.sigma(n)
        for n, g in problem.gradient.items()
    ]
    assert max(apart) > 20


def test_no_image_adds_a_share_of_its_own_where_entries_are_bounded(tiny_net, update):
    problem, _, y = posed(tiny_net, update)
    assert not residuals(problem, problem.targets(y), sample=1.0, seed=0).separable


def test_dlg_sees_the_image_behind_a_step(tiny_net, update):
    problem, x, y = posed(tiny_net, update)
    granted = dataclasses.replace(problem, threat=ThreatModel(labels=y))
    found = DLG(iterations=300).run(granted)
    [note] = found.notes
    assert note.startswith("Adam clients: ")
    assert note.endswith("% of the gradient's entries are told, of others their sign")
    assert float((found.images - x).square().mean()) < 1e-3


@pytest.mark.parametrize("images", [1, 3])
def test_labels_follow_from_signs(tiny_net, update, images):
    recipe = dataclasses.replace(RECIPE, batch_size=images)
    problem, _, y = posed(tiny_net, update, recipe, images=images, outputs=8)
    assert recover(problem).tolist() == y.tolist()


def test_labels_by_sign_alone():
    bias = torch.tensor([-0.1, 0.2, -0.3])
    assert labels_from_signs(bias, 3, "cross-entropy").tolist() == [0, 0, 2]
    assert labels_from_signs(bias, 2, "bce").tolist() == [[1, 0, 1]] * 2
    assert labels_from_signs(torch.tensor([0.1, 0.0]), 2, "cross-entropy").tolist() == [1, 1]


def test_what_cannot_be_read_is_refused_in_words(tiny_net, update):
    problem, _, _ = posed(tiny_net, update)
    with pytest.raises(AttackError, match="encgrad: steps of Adam tell no gradient of the last"):
        EncGradInversion(iterations=1).run(problem)
    model, seen = problem.model, problem.observation
    mixed = dataclasses.replace(seen, view="aggregate", members={"client-00": 1})
    with pytest.raises(ObservationError, match="Adam, and a mean of its steps is no gradient"):
        build_problem(mixed, ThreatModel(), model, image_shape=(1, 8, 8))
    with pytest.raises(ObservationError, match="Adam, and its clipped steps cannot be taken back"):
        build_problem(seen, ThreatModel(channel=Channel(clip=1.0)), model, image_shape=(1, 8, 8))
