from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from adversary import Observation, Prior, ThreatModel, TrainingRecipe
from adversary.attacks import Standard
from adversary.attacks.certificates import Statement
from adversary.attacks.standard import EFFORTS, attack
from adversary.attacks.standard.members import MEMBERS
from adversary.attacks.standard.rehearsal import (
    Rehearsal,
    Unexplained,
    rehearsal,
    residual_gradient,
)
from adversary.observation.mean_gradient import mean_gradient
from adversary.problem.problem import build_problem
from adversary.scoring.metrics import match_images, psnr
from fl_sim.models import create
from fl_sim.training.local_training import minibatches, train
from tests.helpers.batches import noise_batch, smooth_batch

SIZE = 8


def problem_of(images, labels, public, **changes):
    """Return what the server has of a client's own local training."""
    recipe = TrainingRecipe(**({"lr": 0.1, "batch_size": 2, "local_epochs": 1} | changes))
    model = create("convnet", channels=1, image_size=SIZE, outputs=2, activation="tanh", seed=3)
    trained = copy.deepcopy(model)
    steps = minibatches(len(images), recipe, seed=1, round=1, client=0)
    train(trained, images, labels, recipe, steps, device=torch.device("cpu"))
    seen = Observation(
        round=1,
        client="client",
        sent={n: v.clone() for n, v in model.state_dict().items()},
        returned={n: v.clone() for n, v in trained.state_dict().items()},
        num_examples=len(images),
        recipe=recipe,
    )
    prior = Prior(public) if len(public) else None
    return build_problem(
        seen, ThreatModel(), model, image_shape=(1, SIZE, SIZE), prior=prior, dtype=torch.float64
    )


RECIPES = [
    {},
    {"local_epochs": 2},
    {"momentum": 0.9, "weight_decay": 0.01},
    {"proximal_mu": 0.1},
    {"batch_size": 4, "local_epochs": 3},
]


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_a_rehearsed_update_is_that_of_a_client_with_these_images(recipe):
    """Of one order of one batch's images; any, where all are in the same batch."""
    public = smooth_batch(1, 7)[0].expand(4, -1, -1, -1)  # equal: their order does not count
    labels = torch.ones(4, dtype=torch.long)
    problem = problem_of(public, labels, public, **recipe)
    place = rehearsal(problem, labels, seed=5)
    assert place is not None
    assert torch.equal(place.images, public.double())
    for name, gradient in problem.gradient.items():
        torch.testing.assert_close(place.problem.gradient[name], gradient, atol=1e-5, rtol=1e-3)


def test_the_rehearsed_weights_tell_the_rehearsed_gradient():
    images, labels = noise_batch(4)
    problem = problem_of(images, labels, noise_batch(9, 1)[0], weight_decay=0.01)
    place = rehearsal(problem, labels, seed=5)
    told = mean_gradient(place.problem.observation, list(problem.gradient))
    for name, gradient in place.problem.gradient.items():
        torch.testing.assert_close(told[name].double(), gradient, atol=1e-4, rtol=1e-3)


def test_the_images_are_drawn_from_the_public_ones_without_repeats():
    images, labels = noise_batch(4)
    public = noise_batch(6, 1)[0]
    problem = problem_of(images, labels, public)
    drawn = [rehearsal(problem, labels, seed).images for seed in (1, 2)]
    for found in drawn:
        places = [(public.double() == one).flatten(1).all(1).nonzero().item() for one in found]
        assert len(set(places)) == 4
    assert not torch.equal(*drawn)


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_images_that_made_an_update_leave_nothing_of_it(recipe):
    """Equal ones, whose order in the epoch does not count."""
    images = smooth_batch(1, 7)[0].expand(4, -1, -1, -1)
    labels = torch.ones(4, dtype=torch.long)
    problem = problem_of(images, labels, images, **recipe)
    left = residual_gradient(problem, images.double(), labels)
    other = residual_gradient(problem, 1 - images.double(), labels)
    for name, gradient in problem.gradient.items():
        assert left[name].norm() < 1e-3 * gradient.norm()
        assert other[name].norm() > 1e-2 * gradient.norm()


def test_an_update_can_be_rehearsed_off_by_a_given_amount():
    images, labels = noise_batch(4)
    problem = problem_of(images, labels, noise_batch(9, 1)[0])
    off = {name: torch.randn_like(value) for name, value in problem.gradient.items()}
    plain, moved = (rehearsal(problem, labels, 5, amount) for amount in (None, off))
    assert torch.equal(plain.images, moved.images)
    told = mean_gradient(moved.problem.observation, list(off))
    for name, amount in off.items():
        gradient = plain.problem.gradient[name] + amount
        torch.testing.assert_close(moved.problem.gradient[name], gradient)
        torch.testing.assert_close(told[name].double(), gradient, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("count", [0, 3])
def test_too_few_public_images_rehearse_nothing(count):
    images, labels = noise_batch(4)
    assert rehearsal(problem_of(images, labels, noise_batch(9, 1)[0][:count]), labels, 0) is None


@pytest.mark.parametrize("seed", range(3))
def test_the_gain_is_the_difference_of_matched_psnr(seed):
    truth, noise = noise_batch(4, seed)[0], noise_batch(4, seed + 10)[0]
    mean, found = torch.full((1, 1, SIZE, SIZE), 0.4), (truth + 0.1 * noise)[[2, 0, 3, 1]]
    place = Rehearsal(problem_of(*noise_batch(4), noise_batch(4)[0]), truth.double())
    order = match_images(found.clamp(0, 1), truth)
    expected = psnr(found[order].clamp(0, 1), truth) - psnr(mean.expand_as(truth), truth)
    assert place.gain(found, mean.double()) == pytest.approx(float(expected.mean()), abs=1e-3)
    assert place.gain(mean.expand_as(truth), mean.double()) == pytest.approx(0, abs=1e-9)


@pytest.fixture
def few_members(monkeypatch):
    """Leave the mean and ``map``, of few steps."""
    members = tuple(one for one in MEMBERS if one.name in ("mean", "map"))
    monkeypatch.setattr(Standard, "_members", members)
    quick = dataclasses.replace(EFFORTS["quick"], iterations=20, rehearsals=2)
    monkeypatch.setitem(EFFORTS, "quick", quick)


def several_steps():
    images, labels = smooth_batch(4, 2)
    return images, problem_of(images, labels, smooth_batch(30, 3)[0])


@pytest.mark.usefixtures("few_members")
@pytest.mark.parametrize("gains", [(-0.5, 0.2), (-0.5, 0.7), (0.5,)])
def test_what_gains_nothing_on_public_images_is_not_given(monkeypatch, gains):
    told = iter(gains)
    monkeypatch.setattr(Rehearsal, "gain", lambda *_: next(told))
    _, problem = several_steps()
    found = Standard(effort="quick").run(problem, seed=0)
    gain = sum(gains) / len(gains)
    given = found.member == "mean"
    assert given == (gain < 0)
    assert list(told) == []
    [note] = [trial.note for trial in found.trials if trial.member == "rehearsal"]
    assert f"gains {gain:.1f} dB over their mean" in note
    if given:
        assert found.certificate == "open"
        assert found.expected_psnr is None


@pytest.mark.usefixtures("few_members")
@pytest.mark.parametrize("what", ["explained", "one image", "aggregate"])
def test_what_needs_no_rehearsal_has_none(monkeypatch, what):
    monkeypatch.setattr(attack, "_gain", lambda *_: pytest.fail("rehearsed"))
    images, labels = smooth_batch(1 if what == "one image" else 4, 2)
    recipe = {"batch_size": 4} if what == "explained" else {"batch_size": 1}
    problem = problem_of(images, labels, smooth_batch(30, 3)[0], **recipe)
    if what == "aggregate":
        seen = dataclasses.replace(problem.observation, view="aggregate")
        problem = dataclasses.replace(problem, observation=seen)
    if what == "explained":
        statement = Statement(certificate="open")
        monkeypatch.setattr(
            attack,
            "_certified",
            lambda work: attack._Certified(work.best, work.best.images, statement, 1.0),
        )
    found = Standard(effort="quick").run(problem, seed=0)
    assert "rehearsal" not in [trial.member for trial in found.trials]


@pytest.mark.usefixtures("few_members")
def test_a_rehearsal_that_fails_leaves_the_result(monkeypatch):
    def broken(*_):
        raise RuntimeError("no\nluck")

    monkeypatch.setattr(attack, "rehearsal", broken)
    images, problem = several_steps()
    found = Standard(effort="quick").run(problem, seed=0)
    [note] = [trial.note for trial in found.trials if trial.member == "rehearsal"]
    assert note == "no luck"
    assert found.images.shape == images.shape


@pytest.mark.usefixtures("few_members")
def test_a_rehearsal_that_is_cut_off_drops_nothing(monkeypatch):
    whole = attack._tried

    def tried(member, work):
        work.cut = work.search.name == "rehearsal"
        return whole(member, work)

    monkeypatch.setattr(attack, "_tried", tried)
    monkeypatch.setattr(Rehearsal, "gain", lambda *_: pytest.fail("judged"))
    found = Standard(effort="quick").run(several_steps()[1], seed=0)
    assert found.member == "map"
    assert "time-limit" in found.flags
    assert found.trials[-1].note == "the time ended before it could tell"


@pytest.mark.usefixtures("few_members")
@pytest.mark.parametrize("told", [0.1, 0.01], ids=["as told", "at ten times the rate"])
def test_an_update_that_was_not_made_as_told_is_said_to_be_so(told):
    """Its pictures are then judged by updates that are off by as much."""
    images, labels = smooth_batch(8, 2)
    problem = problem_of(images, labels, smooth_batch(30, 3)[0], batch_size=8)
    seen = dataclasses.replace(
        problem.observation, recipe=dataclasses.replace(problem.observation.recipe, lr=told)
    )
    problem = build_problem(
        seen, ThreatModel(), problem.model, image_shape=(1, SIZE, SIZE), prior=problem.prior,
        dtype=torch.float64,
    )  # fmt: skip
    found = Standard(effort="quick").run(problem, seed=0)
    [note] = [trial.note for trial in found.trials if trial.member == "rehearsal"]
    assert ("recipe-contradicted" in found.flags) == (told == 0.01)
    assert ("not made as it was told" in note) == (told == 0.01)
    assert found.member == ("map" if told == 0.1 else "mean")


@pytest.mark.parametrize(
    ("left", "client", "contradicted"),
    [
        (Unexplained(1e5, 1e7), 1e5, False),
        (Unexplained(1e5, 1e7), 1.9e6, False),
        (Unexplained(1e5, 1e7), 2.1e6, True),
        (Unexplained(1.0, 1e7), 2.1e6, False),  # the rehearsal was explained: luck with a minimum
    ],
)
def test_only_a_rehearsal_that_is_not_explained_either_contradicts_the_recipe(
    left, client, contradicted
):
    assert left.contradicted_by(client) == contradicted
