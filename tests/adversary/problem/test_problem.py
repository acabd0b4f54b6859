from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from adversary import ObservationError, Prior, ThreatModel, TrainingRecipe
from adversary.optim.distances import cosine_distance, layer_distance, squared_distance
from adversary.priors.total_variation import total_variation
from adversary.problem.head import head_name
from adversary.problem.problem import build_problem


def make(tiny_net, update, *, batch=2, norm=False, mode="train", channels=1, loss="cross-entropy"):
    model = tiny_net(norm=norm, channels=channels)
    images = torch.rand(batch, channels, 8, 8)
    labels = torch.arange(batch) % 3
    targets = labels if loss == "cross-entropy" else functional.one_hot(labels, 3).float()
    recipe = TrainingRecipe(lr=0.1, batch_size=batch, batch_norm=mode, loss=loss)
    seen = update(model, images, targets, recipe)
    problem = build_problem(
        seen, ThreatModel(), model, image_shape=(channels, 8, 8), dtype=torch.float64
    )
    return problem, images.double(), problem.targets(targets)


@pytest.mark.parametrize("loss", ["cross-entropy", "bce"])
@pytest.mark.parametrize(("norm", "mode"), [(False, "train"), (True, "train"), (True, "eval")])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_true_images_have_the_observed_gradient(tiny_net, update, norm, mode, channels, loss):
    problem, images, targets = make(
        tiny_net, update, norm=norm, mode=mode, channels=channels, loss=loss
    )
    found = problem.gradients(images[None], targets[None])
    assert found.keys() == problem.gradient.keys()
    assert squared_distance(found, problem.gradient).item() < 1e-8
    assert layer_distance(found, problem.gradient).item() < 1e-4
    assert cosine_distance(found, problem.gradient).item() < 1e-8


@pytest.mark.parametrize(("norm", "mode"), [(False, "train"), (True, "train"), (True, "eval")])
def test_a_batch_of_candidates_is_each_candidate_alone(tiny_net, update, norm, mode):
    problem, images, targets = make(tiny_net, update, norm=norm, mode=mode)
    candidates = torch.stack([images, images.flip(0), torch.rand_like(images)])
    together = problem.gradients(candidates, targets.expand(3, -1, -1))
    for r, candidate in enumerate(candidates):
        alone = problem.gradients(candidate[None], targets[None])
        for name, value in alone.items():
            torch.testing.assert_close(together[name][r], value[0], rtol=1e-8, atol=1e-12)


def test_the_objective_s_gradient_is_that_of_finite_differences(tiny_net, update):
    problem, images, targets = make(tiny_net, update)
    for distance in (squared_distance, cosine_distance, layer_distance):
        x = torch.rand(1, *images.shape, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(
            lambda x, d=distance: d(problem.gradients(x, targets[None]), problem.gradient), (x,)
        )


def test_the_cosine_distance_has_the_gradient_of_its_definition():
    """Of three candidates at once, and nothing but numbers for one with no gradient at all."""
    draw = torch.Generator().manual_seed(3)
    shapes = {"a": (4, 3), "b": (5,), "c": ()}
    observed = {n: torch.randn(s, generator=draw, dtype=torch.float64) for n, s in shapes.items()}
    found = {
        n: torch.randn(3, *s, generator=draw, dtype=torch.float64).requires_grad_()
        for n, s in shapes.items()
    }
    with torch.no_grad():
        for value in found.values():
            value[2] = 0
    flat = torch.cat([found[n].reshape(3, -1) for n in shapes], 1)
    target = torch.cat([observed[n].reshape(-1) for n in shapes])
    weights = torch.tensor([1.0, -2.0, 5.0], dtype=torch.float64)
    expected = 1 - torch.nn.functional.cosine_similarity(flat[:2], target[None])
    distance = cosine_distance(found, observed)
    torch.testing.assert_close(distance[:2], expected)
    assert distance[2] == 0.5
    slopes = torch.autograd.grad((weights * distance).sum(), list(found.values()))
    wanted = torch.autograd.grad((weights[:2] * expected).sum(), list(found.values()))
    for slope, want in zip(slopes, wanted, strict=True):
        torch.testing.assert_close(slope[:2], want[:2])
        assert not slope[2].any()


@pytest.mark.parametrize("angle", [1e-9, 1e-3, 1.0, 3.0])
def test_distances_are_their_definitions(angle):
    """Against NumPy in float64, and for an angle whose cosine rounds to 1 in float32."""
    turn = torch.tensor([math.cos(angle), math.sin(angle)])
    observed = {"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([[0.0, 2.0]])}
    other = torch.stack([-turn[1], turn[0]])
    found = {"a": torch.stack([3 * turn, turn]), "b": torch.stack([6 * other, 2 * other])[:, None]}
    expected = 2 * math.sin(angle / 2) ** 2
    assert cosine_distance(found, observed).tolist() == pytest.approx([expected] * 2, rel=1e-5)
    for r in range(2):
        apart = [np.linalg.norm((found[n][r] - observed[n]).numpy()) for n in "ab"]
        got = float(squared_distance(found, observed)[r])
        assert got == pytest.approx(sum(a**2 for a in apart) / 5, rel=1e-4)
        assert float(layer_distance(found, observed)[r]) == pytest.approx(sum(apart) / 3, rel=1e-4)


def test_the_model_passed_in_is_not_touched(tiny_net, update):
    model = tiny_net(norm=True)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    seen = update(
        model, torch.rand(2, 1, 8, 8), torch.tensor([0, 1]), TrainingRecipe(lr=1, batch_size=2)
    )
    problem = build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8))
    problem.gradients(torch.rand(1, 2, 1, 8, 8), torch.eye(3)[None, :2])
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())


def test_an_update_of_another_model_is_refused(tiny_net, update):
    seen = update(
        tiny_net(outputs=3),
        torch.rand(1, 1, 8, 8),
        torch.tensor([0]),
        TrainingRecipe(lr=1, batch_size=1),
    )
    with pytest.raises(
        ObservationError, match="client-00 in round 1: the update is of another model"
    ):
        build_problem(seen, ThreatModel(), tiny_net(outputs=4), image_shape=(1, 8, 8))


@pytest.mark.parametrize("frozen", [["body.0"], ["body.1"], ["body.0", "body.1", "body.3"]])
def test_what_was_not_sent_is_as_the_server_has_it(tiny_net, update, frozen):
    model = tiny_net(norm=True)
    model.body[1].running_mean.uniform_(-1, 1)
    for name in frozen:
        model.get_submodule(name).requires_grad_(False)
    images, labels = torch.rand(3, 1, 8, 8), torch.tensor([0, 1, 2])
    recipe = TrainingRecipe(lr=0.1, batch_size=3)
    seen = update(model, images, labels, recipe)
    for name in list(seen.sent):
        if name.rpartition(".")[0] in frozen:
            del seen.sent[name], seen.returned[name]
    problem = build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8), dtype=torch.float64)
    found = problem.gradients(images.double()[None], problem.targets(labels)[None])
    assert found.keys() == problem.gradient.keys()
    assert not any(name.rpartition(".")[0] in frozen for name in found)
    for name, value in problem.gradient.items():
        torch.testing.assert_close(found[name][0], value, rtol=1e-4, atol=1e-6)


def test_arrays_that_the_model_lacks_are_named(tiny_net, update):
    model = tiny_net()
    seen = update(
        model, torch.rand(1, 1, 8, 8), torch.tensor([0]), TrainingRecipe(lr=1, batch_size=1)
    )
    seen.sent["other"] = seen.returned["other"] = torch.zeros(1)
    with pytest.raises(ObservationError, match=r"of another model \(it has no other\)"):
        build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8))


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (3, 3, 5, 7)])
def test_total_variation_against_a_loop(shape):
    images = torch.rand(2, *shape, dtype=torch.float64)
    for candidate, found in zip(images, total_variation(images), strict=True):
        a = candidate.numpy()
        expected = (
            abs(a[..., :, 1:] - a[..., :, :-1]).mean() + abs(a[..., 1:, :] - a[..., :-1, :]).mean()
        )
        assert float(found) == pytest.approx(expected)


def test_the_prior_s_mean_is_the_mean():
    images = torch.rand(4, 1, 8, 8)
    torch.testing.assert_close(Prior(images).mean[0], sum(images) / 4)


def test_the_head_is_the_layer_of_that_name_or_else_the_last_linear_one():
    named = nn.ModuleDict(
        {"body": nn.Linear(4, 4), "head": nn.Linear(4, 3), "aside": nn.Linear(4, 2)}
    )
    assert head_name(named) == "head"
    del named["head"]
    assert head_name(named) == "aside"
    with pytest.raises(ObservationError, match="no linear layer"):
        head_name(nn.Conv2d(1, 1, 3))
