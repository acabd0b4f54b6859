from __future__ import annotations

import dataclasses
import functools
import math

import pytest
import torch
from torch import nn
from torch.func import jacrev
from torch.nn import functional

from adversary import Limits, Prior, ThreatModel, TrainingRecipe
from adversary.attacks import AttackError, AttackOptionError, Encoder, Standard
from adversary.attacks.certificates import Encoded, encoded, spares_columns
from adversary.attacks.certificates.posterior import truncated
from adversary.attacks.encoder import attack, encoding_equations
from adversary.attacks.encoder.encoding_equations import (
    EncodingEquations,
    EncodingError,
    EncodingModel,
    NormalFactor,
    told_encoding,
)
from adversary.attacks.standard.members import MEMBERS
from adversary.observation.channel import Channel
from adversary.optim.conjugate_gradients import batched_conjugate_gradients
from adversary.optim.levenberg_marquardt import DescentOptions, Iterate, LevenbergMarquardt
from adversary.optim.search import Search
from adversary.priors.random_field import RandomField
from adversary.problem.problem import build_problem, image_prior
from adversary.problem.residuals import residuals


class ConvNet(nn.Module):
    """Convolutions of stride 2 whose output keeps twice as many values as there are pixels."""

    def __init__(self, activation, outputs=2, bias=True):
        super().__init__()
        layers, channels = [], 1
        for width in (8, 32):
            layers += [nn.Conv2d(channels, width, 3, 2, 1), activation()]
            channels = width
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(32 * 16, outputs, bias=bias)

    def encode(self, images):
        return self.body((images - 0.5) / 0.25).flatten(1)

    def forward(self, images):
        return self.head(self.encode(images))


def xrays(count, size, seed):
    """Return smooth random images, (count, 1, size, size), all around one mean."""
    draw = torch.Generator().manual_seed(seed)
    waves = torch.linspace(0, torch.pi, size).mul(torch.arange(1, 6)[:, None]).cos()
    weights = 0.05 * torch.randn(count, 5, 5, generator=draw)
    mean = 0.5 + 0.2 * torch.outer(waves[0], waves[1])
    return (mean + torch.einsum("nij,ia,jb->nab", weights, waves, waves)).clamp(0, 1)[:, None]


def psnr(found, truth):
    return float(-10 * (found.double() - truth.double()).square().mean().log10())


@pytest.fixture
def posed(update):
    def make(
        *, activation=nn.GELU, seed=0, model=None, size=16, batch=1, public=16, channel=None,
        **options,
    ):  # fmt: skip
        torch.manual_seed(seed)
        model = model or ConvNet(activation)
        images = xrays(batch, size, seed)
        options = {"lr": 0.1, "batch_size": batch, **options}
        outputs = model.head.out_features
        labels = torch.arange(batch) % outputs
        if options.get("loss") == "bce":
            labels = functional.one_hot(labels, outputs).float()
        seen = update(model, images, labels, TrainingRecipe(**options))
        prior = Prior(xrays(public, size, 99)) if public else None
        threat = ThreatModel(channel=channel or Channel())
        return build_problem(seen, threat, model, image_shape=(1, size, size), prior=prior), images

    return make


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"loss": "bce"},
        {"class_weights": (1.0, 3.0)},
        {"channel": Channel(clip=0.003)},
        {"channel": Channel(example_clip=0.02)},
    ],
    ids=["softmax", "sigmoid", "class weights", "clipped", "clipped by image"],
)
def test_the_encoding_is_told_whatever_the_loss_and_the_clipping(posed, options):
    problem, images = posed(**options)
    scale = 0.3 if "channel" in options else 1.0
    told = {n: scale * g for n, g in problem.gradient.items()}
    problem = dataclasses.replace(problem, gradient=told).to(torch.float64)
    found, deviation = told_encoding(problem)
    error = (found - problem.encode(images.double())[0]) / deviation
    assert 0.3 < error.square().mean().sqrt() < 1.5 / scale


def test_masked_entries_are_not_told_and_the_others_as_well_as_before(posed):
    problem, images = posed()
    mask = torch.ones(2, 512, dtype=torch.bool)
    mask[:, :100] = False
    mask[0, 100:200] = False
    channel = Channel(observed={"head.weight": mask})
    threat = dataclasses.replace(problem.threat, channel=channel)
    kept = channel.keep(problem.gradient)
    problem = dataclasses.replace(problem, threat=threat, gradient=kept).to(torch.float64)
    found, deviation = told_encoding(problem)
    assert deviation[:100].isinf().all()
    assert deviation[100:].isfinite().all()
    assert deviation[150] > 1.2 * deviation[250]  # of one row instead of two
    error = (found - problem.encode(images.double())[0]) / deviation
    assert error[100:].square().mean().sqrt() < 1.5
    assert len(EncodingEquations(problem)) == 412
    assert psnr(Encoder().run(problem).images, images) > 90


def test_the_normal_equations_are_those_of_the_whole_jacobian(posed):
    problem, images = posed()
    equations = EncodingEquations(problem.to(torch.float64))
    x = images.double()
    J = jacrev(equations)(x).flatten(1)
    field = RandomField(image_prior(problem.to(torch.float64)))
    residual = equations(x + 0.01)
    model = EncodingModel(NormalFactor(), equations, x, residual, field)
    precision = torch.zeros(256, 256, dtype=torch.float64)
    field.add(precision, 0.1)
    assert model.factorise(0.5, 0.1)
    gradient = 0.5 * J.T @ residual + field.gradient(x)
    torch.testing.assert_close(model.gradient(), gradient, rtol=1e-6, atol=0)
    wanted = torch.linalg.solve(0.5 * J.T @ J + precision, gradient)
    apart = model.solve(gradient) - wanted  # float32 products
    assert apart.norm() < 1e-4 * wanted.norm()


def test_of_a_linear_encoder_the_end_is_the_closed_form(posed):
    problem, _ = posed(activation=nn.Identity)
    problem = problem.to(torch.float64)
    equations, field = EncodingEquations(problem), RandomField(image_prior(problem))
    start = field.mean.clone()
    residual = equations(start)
    search = Search("test", 0)
    hot = float(residual.square().mean())
    place = Iterate(start, residual, hot)
    options = DescentOptions(iterations=20)
    model = functools.partial(EncodingModel, NormalFactor())
    descent = LevenbergMarquardt(equations, field, model, search, options)
    found = descent.minimise(place)
    J = jacrev(equations)(start).flatten(1)
    precision = torch.zeros(256, 256, dtype=torch.float64)
    field.add(precision, 0.0)
    step = torch.linalg.solve(J.T @ J + precision, -J.T @ residual)
    assert found.temperature == 1
    torch.testing.assert_close(found.images, start + step.view_as(start), atol=1e-8, rtol=0)


@pytest.mark.parametrize("loss", ["cross-entropy", "bce"])
@pytest.mark.parametrize("activation", [nn.GELU, nn.Tanh, nn.Sigmoid, nn.SiLU])
def test_one_image_comes_back_to_the_last_digits(posed, activation, loss):
    problem, images = posed(activation=activation, loss=loss, seed=1)
    found = Encoder().run(problem, seed=0)
    assert psnr(found.images, images) > 100
    assert found.score < Encoder.FLOOR
    assert found.stopped == "converged"
    assert found.labels.tolist() == ([[1.0, 0.0]] if loss == "bce" else [0])
    assert [step.iteration for step in found.history] == list(range(len(found.history)))


def test_a_net_of_the_tests_without_public_xrays(posed, tiny_net):
    problem, images = posed(model=tiny_net(), size=8, public=0)
    assert psnr(Encoder().run(problem).images, images) > 60


def test_one_seed_one_result(posed):
    problem, _ = posed()
    one, two = (Encoder().run(problem, seed=3) for _ in range(2))
    assert torch.equal(one.images, two.images)
    assert one.score == two.score


def test_the_next_start_is_taken_where_one_is_stuck(posed, monkeypatch):
    problem, images = posed()
    starts = [torch.zeros_like(images.double()), images.double() + 1e-3]
    monkeypatch.setattr(attack, "_starts", lambda prior, count, seed: starts)
    monkeypatch.setattr(attack, "MAX_REPAIRS", 0)
    found = Encoder(iterations=5).run(problem)
    assert found.history[-1].restart == 1
    assert psnr(found.images, images) > 100


@pytest.mark.parametrize("seed", range(3))
def test_pixels_in_a_wrong_valley_are_sought_anew_and_the_others_stay(posed, monkeypatch, seed):
    problem, images = posed(seed=seed)
    spoilt = images.double().clone()
    spoilt[..., 10:13, 13:] = torch.tensor([4.0, -3.0, 4.0])  # far from any X-ray
    monkeypatch.setattr(attack, "_starts", lambda prior, count, seed: [spoilt])
    monkeypatch.setattr(attack, "INITIAL_TEMPERATURE", 1.0)
    monkeypatch.setattr(attack, "MAX_REPAIRS", 0)
    assert Encoder(iterations=1).run(problem).score > 10 * Encoder.FLOOR
    monkeypatch.setattr(attack, "MAX_REPAIRS", 4)
    assert psnr(Encoder(iterations=8).run(problem).images, images) > 100


def test_a_factor_of_an_earlier_place_serves_until_it_does_not(posed, monkeypatch):
    problem, images = posed()
    equations = EncodingEquations(problem.to(torch.float64))
    field = RandomField(image_prior(problem.to(torch.float64)))
    known, x = NormalFactor(), images.double()
    made = []
    for at in (x, x + 0.01):
        model = EncodingModel(known, equations, at, equations(at), field)
        made.append(known.place)
        assert model.factorise(1e-6, 0.0)
        right = model.gradient()
        J = jacrev(equations)(at).flatten(1)
        precision = torch.zeros(256, 256, dtype=torch.float64)
        field.add(precision, 0.0)
        wanted = torch.linalg.solve(1e-6 * J.T @ J + precision, right)
        assert (model.solve(right) - wanted).norm() < 1e-3 * wanted.norm()
    assert made[0] is made[1] is known.place
    monkeypatch.setattr(encoding_equations, "MAX_STALE_ITERATIONS", 0)
    model.solve(right)
    assert known.place is at


def test_the_whole_update_adds_digits(posed):
    problem, images = posed(activation=nn.Tanh)
    problem = problem.to(torch.float64)
    equations = EncodingEquations(problem)
    whole = residuals(problem, problem.targets(torch.tensor([0])), math.inf, 0).completed()
    whole = whole.calibrated(images.double())
    field = RandomField(image_prior(problem))
    residual = equations(field.mean)
    place = Iterate(field.mean, residual, 1e3 * float(residual.square().mean()))
    search = Search("test", 0)
    options = DescentOptions(iterations=30)
    model = functools.partial(EncodingModel, NormalFactor())
    descent = LevenbergMarquardt(equations, field, model, search, options)
    alone = descent.minimise(place).images
    found = Encoder().run(problem)
    assert psnr(found.images, images) > psnr(alone, images) + 1
    assert found.score < float(whole(alone).square().mean())


def without_bias(posed):
    return posed(model=ConvNet(nn.GELU, bias=False))[0]


def of_adam(posed):
    problem, _ = posed()
    recipe = dataclasses.replace(problem.observation.recipe, optimizer="adam")
    seen = dataclasses.replace(problem.observation, recipe=recipe)
    return dataclasses.replace(problem, observation=seen)


REFUSED = {
    "2 images": lambda posed: posed(batch=2)[0],
    "several local steps": lambda posed: posed(local_epochs=2)[0],
    "adds noise": lambda posed: posed(channel=Channel(noise={"head.weight": 1e-3}))[0],
    "was not sent": without_bias,
    "steps of Adam": of_adam,
    "hides entries": lambda posed: posed(
        channel=Channel(observed={"head.bias": torch.tensor([True, False])})
    )[0],
    "128 values of an image of 256": lambda posed: posed(model=Few())[0],
}


class Few(nn.Module):
    """A net that keeps half as many values as there are pixels."""

    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(1, 2, 3, 2, 1)
        self.head = nn.Linear(128, 2)

    def forward(self, images):
        return self.head(self.body(images).flatten(1))


@pytest.mark.parametrize("why", REFUSED)
def test_what_does_not_suit_is_refused_in_one_line(posed, why):
    problem = REFUSED[why](posed)
    with pytest.raises(AttackError, match=f"^encoder: .*{why}") as caught:
        Encoder().run(problem)
    assert "\n" not in str(caught.value)


def test_a_bias_within_its_noise_tells_no_encoding(posed):
    problem, _ = posed()
    none = {**problem.gradient, "head.bias": torch.full((2,), 1e-9)}
    with pytest.raises(EncodingError, match="no larger than its noise"):
        told_encoding(dataclasses.replace(problem, gradient=none))


@pytest.mark.parametrize("option", ["starts", "iterations"])
def test_bad_options(option):
    with pytest.raises(AttackOptionError, match=f"encoder.{option} = 0"):
        Encoder(**{option: 0})


def test_a_limit_ends_it_with_the_best_so_far(posed):
    problem, images = posed()
    found = Encoder().run(problem, limits=Limits(evaluations=1))
    assert found.stopped == "evaluations"
    assert len(found.history) == 2
    assert found.images.shape == images.shape


@pytest.fixture
def local(posed):
    def make(activation=nn.GELU, seed=0, off=1e-6):
        problem, images = posed(activation=activation, seed=seed)
        problem = problem.to(torch.float64)
        whole = residuals(problem, problem.targets(torch.tensor([0])), math.inf, 0).completed()
        at = images.double() + off
        whole = whole.calibrated(at)
        normal = EncodingEquations(problem).normal(at)
        return Encoded(whole, at, image_prior(problem), normal), images

    return make


@pytest.mark.parametrize("temperature", [1.0, 1e4, 1e14])
def test_the_posterior_is_that_of_the_whole_jacobian(local, temperature):
    found, _ = local(nn.Tanh)
    J, P = found.equations.rows(found.images).T, found.prior.precision()
    covariance = torch.linalg.inv(J.T @ J / temperature + P)
    away = (found.images - found.prior.mean).flatten()
    step = covariance @ (J.T @ found.residual / temperature + P @ away)
    posterior = found.at(temperature, steps=1)
    exact = truncated(
        found.images - step.view_as(found.images), covariance.diagonal().view_as(found.images)
    )[0]
    apart = (found.moved(temperature) - found.images + step.view_as(found.images)).square().mean()
    assert apart < 0.1 * covariance.diagonal().mean()
    assert posterior.parameters == pytest.approx(
        256 - float((covariance * P).sum()), abs=0.05 * 256
    )
    pulls = [J.T @ e / temperature**0.5 for e in found.equations.errors(found.images, 50, 1)]
    moved = torch.stack(pulls) @ covariance
    spread = moved.T @ moved / 50 + covariance @ P @ covariance
    freedom = spread.trace().square() / spread.square().sum()
    assert 1 / 3 < posterior.freedom.item() / freedom.item() < 3
    if temperature < 1e14:  # no pixel near the ends of its range
        torch.testing.assert_close(posterior.images.clamp(0, 1), exact, atol=1e-3, rtol=0)
        expected = -10 * math.log10(spread.trace().item() / 256)
        assert posterior.psnr.item() == pytest.approx(expected, abs=1.5)


def test_a_step_from_where_it_settled_is_none(local):
    found, images = local()
    moved = found.moved()
    assert psnr(moved, images) > psnr(found.images, images) + 3
    again = Encoded(found.equations, moved, found.prior, found._normal)
    assert again.moved() is moved


def test_equations_that_are_not_solved_give_no_posterior_and_a_part_of_the_step(local, monkeypatch):
    found, _ = local()
    monkeypatch.setattr(encoded, "CG_ITERATIONS", 1)
    assert found.equations(found.moved()).norm() < 0.9 * found.residual.norm()
    with pytest.raises(ValueError, match="not solved"):
        found.at(steps=1)


def test_the_standard_adversary_proves_it_without_the_products_too(posed, monkeypatch):
    problem, images = posed(activation=nn.Tanh)
    monkeypatch.setattr(encoded, "PRODUCTS_PER_DRAW", 0)  # else a small image has its Jacobian
    monkeypatch.setattr(encoded, "CG_ITERATIONS", 1)
    found = Standard().run(problem, seed=0)
    assert found.certificate == "proved"
    assert found.expected_psnr is not None
    assert found.expected_psnr[0] == pytest.approx(psnr(found.images, images), abs=5)


def test_several_right_hand_sides_are_solved_each_by_itself():
    draw = torch.Generator().manual_seed(0)
    root = torch.randn(12, 12, generator=draw, dtype=torch.float64)
    matrix = root @ root.T + torch.eye(12)
    rights = torch.randn(3, 12, generator=draw, dtype=torch.float64)
    rights[1] = 0
    solved, done = batched_conjugate_gradients(
        lambda v: v @ matrix, rights, lambda v: v / matrix.diagonal(), enough=1e-20, iterations=40
    )
    assert done
    torch.testing.assert_close(solved, torch.linalg.solve(matrix, rights.T).T)
    assert not batched_conjugate_gradients(
        lambda v: v @ matrix, rights, lambda v: v, enough=1e-20, iterations=2
    )[1]


def test_a_large_image_is_drawn_from_and_a_small_one_has_its_jacobian():
    assert [spares_columns(size**2) for size in (12, 16, 32, 64, 224)] == [False] * 2 + [True] * 3


def test_it_expects_the_psnr_that_it_has(local):
    apart = []
    for seed in range(8):
        found, images = local(nn.Tanh, seed)
        posterior = found.at(steps=1)
        apart.append(posterior.psnr.item() - psnr(posterior.images, images))
    assert max(map(abs, apart)) < 3
    assert abs(sum(apart) / len(apart)) < 1.5


@pytest.mark.parametrize("products", [0, encoded.PRODUCTS_PER_DRAW])
def test_the_standard_adversary_needs_nothing_dearer(posed, monkeypatch, products):
    monkeypatch.setattr(encoded, "PRODUCTS_PER_DRAW", products)
    problem, images = posed(activation=nn.Tanh)
    found = Standard().run(problem, seed=0)
    assert found.member == "encoder"
    assert found.certificate == "proved"
    assert found.trials[-1].member == "encoder"
    assert found.expected_psnr is not None
    assert found.expected_psnr[0] == pytest.approx(psnr(found.images, images), abs=3)


def test_the_standard_adversary_leaves_it_out_of_what_does_not_suit(posed, monkeypatch):
    early = [member for member in MEMBERS if member.name in ("mean", "encoder")]
    assert len(early) == 2
    monkeypatch.setattr("adversary.attacks.standard.attack.MEMBERS", early)
    found = Standard(effort="quick").run(posed(batch=2)[0], seed=0)
    assert "encoder" not in [trial.member for trial in found.trials]
