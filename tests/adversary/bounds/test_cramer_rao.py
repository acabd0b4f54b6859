from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from adversary import Observation, ThreatModel, TrainingRecipe
from adversary.attacks import GaussNewton
from adversary.bounds.cramer_rao import (
    BoundBudget,
    NoEstimateError,
    _least,
    _stochastic,
    cramer_rao_bound,
)
from adversary.bounds.fisher_information import (
    BCR,
    CR,
    BoundError,
    FisherInformation,
    noise_deviation,
)
from adversary.common.truth import Blends, Truth
from adversary.observation.channel import Channel
from adversary.observation.mechanisms import Quantised
from adversary.priors.gaussian import GaussianPrior
from adversary.priors.public import Prior
from adversary.problem.problem import build_problem
from adversary.problem.update_models import unrolled

DENSE = BoundBudget(method="dense")


class Linear(nn.Module):
    """Logits linear in the image; with B = 1 its head's gradient is an outer product."""

    def __init__(self, pixels=12, outputs=3):
        super().__init__()
        self.head = nn.Linear(pixels, outputs)

    def forward(self, images):
        return self.head(images.flatten(1))


def seen_by_server(model, images, labels, *, scale=0.0, seed=0, **recipe):
    """Return what the server holds: a float32 gradient with normal noise on every entry."""
    targets = torch.nn.functional.cross_entropy(model(images), labels)
    gradient = torch.autograd.grad(targets, list(model.parameters()))
    draw = torch.Generator().manual_seed(seed)
    names = [n for n, _ in model.named_parameters()]
    returned = {
        n: g + scale * torch.randn(g.shape, generator=draw)
        for n, g in zip(names, gradient, strict=True)
    }
    return Observation(
        round=1,
        client="client-00",
        sent=model.state_dict(),
        returned=returned,
        num_examples=len(images),
        recipe=TrainingRecipe(lr=1, batch_size=len(images), update="gradient", **recipe),
    )


def posed(model, images, labels, *, scale=0.0, seed=0):
    seen = seen_by_server(model, images, labels, scale=scale, seed=seed)
    channel = Channel(noise=dict.fromkeys(seen.returned, scale) if scale else {})
    shape = tuple(images.shape[1:])
    problem = build_problem(seen, ThreatModel(channel=channel), model, image_shape=shape)
    names = tuple(str(i) for i in range(len(images)))
    return problem, Truth(images=images, labels=labels, names=names)


def smooth_prior(shape=(1, 8, 8), count=6, seed=0):
    small = torch.rand(count, 1, 3, 3, generator=torch.Generator().manual_seed(seed))
    return GaussianPrior.fit(nn.functional.interpolate(small, size=shape[1:], mode="bilinear"))


def draw_images(batch, seed=0):
    return torch.rand(batch, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("scale", [1e-3, 1e-1])
@pytest.mark.parametrize("prior", [False, True])
def test_a_linear_layer_against_its_closed_form(scale, prior):
    """The gradient is (p - y) x^T and p - y, its Jacobian known on paper, P given."""
    torch.manual_seed(0)
    model, image = Linear(), torch.rand(1, 1, 3, 4)
    problem, truth = posed(model, image, torch.tensor([1]), scale=scale)
    W = model.head.weight.detach().double().numpy()
    x = image.double().numpy().ravel()
    p = torch.softmax(model(image), 1)[0].detach().double().numpy()
    error = p - np.array([0, 1, 0])
    slope = (np.diag(p) - np.outer(p, p)) @ W  # of p in x
    rows = [e * np.eye(12) + np.outer(x, s) for e, s in zip(error, slope, strict=True)]
    J = np.concatenate([*rows, slope])
    known = GaussianPrior(
        torch.full((1, 1, 3, 4), 0.5).double(),
        0.1 * torch.randn(4, 12, dtype=torch.float64),
        torch.full((12,), 0.01, dtype=torch.float64),
    )
    precision = known.precision().numpy() if prior else 0
    expected = np.diag(np.linalg.inv(J.T @ J / scale**2 + precision))
    found = cramer_rao_bound(problem, truth, known if prior else None, budget=DENSE)
    assert found.kind == (BCR if prior else CR)
    np.testing.assert_allclose(found.variance.numpy().ravel(), expected, rtol=1e-4)
    np.testing.assert_allclose(found.psnr, -10 * np.log10(expected.mean()), atol=1e-3)
    np.testing.assert_allclose(found.deviation**2, found.variance)


def local_sgd(model, images, labels, batches, *, lr=0.1, momentum=0.0, clip=None, expected=None):
    """Return by how much torch's own SGD moves the weights; each image's gradient clipped."""
    client = copy.deepcopy(model)
    optimiser = torch.optim.SGD(client.parameters(), lr=lr, momentum=momentum)

    def gradient(batch):
        loss = nn.functional.cross_entropy(client(images[batch]), labels[batch])
        return torch.autograd.grad(loss, list(client.parameters()))

    for batch in batches:
        if clip is None:
            found = gradient(batch)
        else:
            found = [torch.zeros_like(p) for p in client.parameters()]
            for one in batch:
                own = gradient(one[None])
                norm = torch.cat([g.flatten() for g in own]).norm()
                for total, g in zip(found, own, strict=True):
                    total += g * min(1, clip / norm) / expected
        for parameter, g in zip(client.parameters(), found, strict=True):
            parameter.grad = g
        optimiser.step()
    before = model.state_dict()
    return {n: p.detach() - before[n] for n, p in client.named_parameters()}


def steps(*batches):
    return tuple(torch.tensor(b, dtype=torch.int64) for b in batches)


def clip_whole(moved, bound):
    norm = torch.cat([v.flatten() for v in moved.values()]).norm()
    return {n: v * min(1, bound / norm) for n, v in moved.items()}


SGD = TrainingRecipe(lr=0.1, batch_size=2)
EPOCHS = dataclasses.replace(SGD, batch_size=1, local_epochs=2, momentum=0.5)
CASES = {
    "noise by array": (SGD, {}, (steps([0, 1]),), {}),
    "clipped update": (SGD, {}, (steps([0, 1]),), {"clip": 0.05}),
    "clipped images, Poisson batches": (
        TrainingRecipe(lr=0.1, batch_size=2, max_steps=3),
        {},
        (steps([0, 1, 2], [], [1]),),
        {"example_clip": 0.4},
    ),
    "masked entries": (SGD, {}, (steps([0, 1]),), {"observed": True}),
    "epochs in other orders": (EPOCHS, {}, (steps([0], [1], [1], [0]),), {}),
    "aggregate of unequal clients": (
        TrainingRecipe(lr=0.1, batch_size=2, max_steps=1),
        {"client-00": 2, "client-01": 6},
        (steps([0, 1]), steps([2, 3])),
        {},
    ),
    "aggregate of other numbers of steps": (
        SGD,
        {"client-00": 1, "client-01": 3},
        (steps([0]), steps([1, 2], [3])),
        {},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_information_is_that_of_finite_differences_through_the_clients_training(tiny_net, case):
    """torch's own SGD in float64, in place of the adversary's model of it."""
    recipe, members, batches, given = CASES[case]
    model = tiny_net(seed=3, norm="aggregate" in case).double()
    count = 1 + max(int(b.max()) for own in batches for b in own if len(b))
    images, labels = draw_images(count).double(), torch.arange(count) % 3
    examples = list(members.values()) or [6 if given.get("example_clip") else count]
    masks = {n: torch.rand(p.shape) < 0.5 for n, p in model.named_parameters()}

    def seen(x):
        total = {}
        for n, own in zip(examples, batches, strict=True):
            moved = local_sgd(
                model,
                x,
                labels,
                own,
                momentum=recipe.momentum,
                clip=given.get("example_clip"),
                expected=recipe.batch_size,
            )
            moved = clip_whole(moved, given["clip"]) if "clip" in given else moved
            for name, value in moved.items():
                total[name] = total.get(name, 0) + n / sum(examples) * value
        return {n: v * masks[n] for n, v in total.items()} if "observed" in given else total

    noise_of = {n: 1e-3 * (i + 1) for i, n in enumerate(masks)}
    sent = {n: v.clone() for n, v in model.state_dict().items()}
    observation = Observation(
        round=1,
        client="client-00",
        sent=sent,
        returned=sent | {n: sent[n] + v for n, v in seen(images).items()},
        num_examples=sum(examples),
        recipe=recipe,
        view="aggregate" if members else "client",
        members=members,
    )
    channel = Channel(
        noise=noise_of, **given | ({"observed": masks} if "observed" in given else {})
    )
    problem = build_problem(
        observation, ThreatModel(channel=channel), model, image_shape=(1, 8, 8), dtype=torch.float64
    )
    truth = Truth(images=images, labels=labels, names=("",) * count, batches=batches)
    columns, step, pixels = [], 1e-5, range(0, images.numel(), 11)
    for i in pixels:
        moved = torch.zeros_like(images)
        moved.view(-1)[i] = step
        above, below = seen(images + moved), seen(images - moved)
        columns.append(
            torch.cat([(above[n] - below[n]).flatten() / (2 * step * noise_of[n]) for n in masks])
        )
    J = torch.stack(columns, 1)
    found = FisherInformation(problem, truth, None).dense()[pixels][:, pixels]
    torch.testing.assert_close(found, J.T @ J, rtol=1e-4, atol=1e-5 * float(found.max()))
    unbatched = dataclasses.replace(truth, batches=())
    if case == "epochs in other orders":  # their order is needed
        silent = dataclasses.replace(problem, threat=ThreatModel())
        with pytest.raises(BoundError, match="unexplained"):
            noise_deviation(silent, unbatched)
    elif "Poisson" in case:
        with pytest.raises(BoundError, match="true images"):
            FisherInformation(problem, unbatched, None)
    else:
        torch.testing.assert_close(
            FisherInformation(problem, unbatched, None).dense()[pixels][:, pixels], found
        )


@pytest.mark.parametrize("prior", [None, smooth_prior()])
def test_the_dense_matrix_is_the_same_by_products(tiny_net, monkeypatch, prior):
    problem, truth = posed(tiny_net(), draw_images(2), torch.tensor([0, 1]), scale=1e-3)
    information = FisherInformation(problem.to(torch.float64), truth, prior)
    joined = information.dense()
    monkeypatch.setattr("adversary.bounds.fisher_information.MEMORY_BYTES", 0)
    torch.testing.assert_close(information.dense(), joined, rtol=1e-9, atol=1e-9 * joined.max())
    identity = torch.eye(128, dtype=torch.float64)
    torch.testing.assert_close(information @ identity, joined, rtol=1e-9, atol=1e-9 * joined.max())


@pytest.mark.parametrize(("batch", "scale"), [(1, 0.0), (1, 1e-2), (1, 1.0), (3, 1e-2)])
def test_the_estimate_agrees_with_the_exact_bound_within_its_stated_error(tiny_net, scale, batch):
    """Over many probes, so that three stated errors are a narrow gate."""
    labels = torch.arange(batch)
    problem, truth = posed(tiny_net(seed=3), draw_images(batch), labels, scale=scale)
    exact = cramer_rao_bound(problem, truth, smooth_prior(), budget=DENSE)
    assert exact.method == "dense"
    assert exact.error.tolist() == [0] * batch
    found = cramer_rao_bound(
        problem, truth, smooth_prior(), budget=BoundBudget(method="stochastic", probes=32)
    )
    assert (found.method, found.converged) == ("stochastic", True)
    assert bool((found.error < 1).all())
    assert bool(((found.psnr - exact.psnr).abs() < 3 * found.error).all())


class Known:
    """The information of two images of 64 pixels, given as a matrix."""

    shape, size, kind, product = (2, 1, 8, 8), 128, CR, 1
    controls = ()

    def __init__(self, matrix):
        self.matrix = matrix
        self.images = torch.zeros(self.shape, dtype=torch.float64)

    def __matmul__(self, vectors):
        return vectors @ self.matrix

    def preconditioner(self, vectors):
        return vectors


def falling(power):
    return torch.arange(1, 129, dtype=torch.float64) ** power


def known(values):
    draw = torch.Generator().manual_seed(1)
    basis = torch.linalg.qr(torch.randn(128, 128, generator=draw, dtype=torch.float64))[0]
    matrix = (basis * values) @ basis.T
    return Known(matrix), -10 * torch.linalg.inv(matrix).diagonal().view(2, -1).mean(1).log10()


@pytest.mark.parametrize(("power", "probes"), [(0.0, 1), (0.5, 1), (1.0, 4), (2.0, 32)])
def test_the_stated_error_is_that_over_the_seeds(power, probes):
    """The fewer directions leave the variance, the more probes it takes."""
    information, exact = known(falling(power))
    budget = BoundBudget(probes=probes, tolerance=0.03)
    found = [_stochastic(information, budget, seed) for seed in range(60)]
    assert all(one.converged for one in found)
    missed = torch.stack([one.psnr - exact for one in found]).square().mean().sqrt()
    stated = torch.stack([one.error for one in found]).square().mean().sqrt()
    assert missed < 1.2 * stated + 1e-9
    assert stated < 2 * missed + 0.2


def test_probes_are_taken_until_there_are_enough_of_them():
    information, exact = known(falling(1.0))
    rough = _stochastic(information, BoundBudget(probes=100, enough=1.0), 0)
    fine = _stochastic(information, BoundBudget(probes=100, enough=0.5), 0)
    assert 0.5 < float(rough.error.max()) <= 1.1
    assert float(fine.error.max()) <= 0.6
    assert bool(((fine.psnr - exact).abs() < 3 * fine.error).all())


@pytest.mark.parametrize("seed", range(3))
def test_a_single_direction_is_not_told_by_one_probe(seed):
    values = torch.ones(128, dtype=torch.float64)
    values[0] = 1e-5
    with pytest.raises(BoundError, match="^no bound: 1 random probes"):
        _stochastic(known(values)[0], BoundBudget(probes=1), seed)


def test_many_products_are_left_to_the_estimate(tiny_net):
    given = posed(tiny_net(), draw_images(1), torch.tensor([1]), scale=1e-2)
    for operations, method in ((1e10, "dense"), (1e3, "stochastic")):
        budget = BoundBudget(operations=operations, tolerance=0.1)
        assert cramer_rao_bound(*given, smooth_prior(), budget=budget).method == method


def test_an_estimate_cut_short_stays_out_of_reach(tiny_net):
    problem, truth = posed(tiny_net(), draw_images(2), torch.tensor([0, 1]), scale=1e-3)
    exact = cramer_rao_bound(problem, truth, smooth_prior(), budget=DENSE)
    found = cramer_rao_bound(
        problem,
        truth,
        smooth_prior(),
        budget=BoundBudget(method="stochastic", probes=64, iterations=3),
    )
    assert not found.converged
    assert float(found.variance.sum()) < float(exact.variance.sum())
    late = BoundBudget(method="stochastic", probes=2, work=0)
    assert not cramer_rao_bound(problem, truth, smooth_prior(), budget=late).converged


def test_an_estimate_ends_with_its_work_and_can_be_repeated(tiny_net):
    problem, truth = posed(tiny_net(), draw_images(2), torch.tensor([0, 1]), scale=1e-3)
    given = problem.to(torch.float64), truth, smooth_prior()
    product = FisherInformation(*given).product
    cut, whole = (
        cramer_rao_bound(
            *given, budget=BoundBudget(method="stochastic", probes=1, work=products * product)
        )
        for products in (3, 1000)
    )
    same = cramer_rao_bound(*given, budget=BoundBudget(method="stochastic", probes=1, iterations=3))
    assert torch.equal(cut.variance, same.variance)
    assert whole.converged
    assert not cut.converged


def test_more_noise_leaves_less_and_at_last_the_prior(tiny_net):
    model, image, prior = tiny_net(), draw_images(1), smooth_prior()
    scales = (1e-5, 1e-4, 1e-2, 1, 1e4)
    at = {s: posed(model, image, torch.tensor([1]), scale=s) for s in scales}
    found = [float(cramer_rao_bound(*at[s], prior).psnr) for s in scales]
    assert found == sorted(found, reverse=True)
    assert found[-1] == pytest.approx(-10 * float(prior.variance.mean().log10()), abs=1e-3)
    without = [float(cramer_rao_bound(*at[s]).psnr) for s in (1e-4, 1e-2)]
    assert without[0] - without[1] == pytest.approx(40, abs=0.1)


def test_a_prior_only_helps(tiny_net):
    problem, truth = posed(tiny_net(), draw_images(1), torch.tensor([1]), scale=1e-3)
    without, having = (
        cramer_rao_bound(problem, truth),
        cramer_rao_bound(problem, truth, smooth_prior()),
    )
    assert (without.kind, having.kind) == (CR, BCR)
    assert bool((having.variance <= without.variance * (1 + 1e-9)).all())


def test_a_maximum_a_posteriori_attack_attains_the_bound():
    """Many images of the prior, many draws of the noise: the mean error is the mean bound."""
    torch.manual_seed(0)
    model, prior = Linear(16), smooth_prior((1, 4, 4))
    draw = torch.Generator().manual_seed(5)
    reached, promised = [], []
    for seed in range(50):
        image = prior.sample(1, generator=draw).float()
        problem, truth = posed(model, image, torch.tensor([1]), scale=2e-2, seed=seed)
        problem = problem.to(torch.float64)
        targets, x = problem.targets(truth.labels), prior.mean.clone()

        def residual(x, problem=problem, targets=targets):
            found = problem.expected(problem.parameters, x, targets)
            misfit = [((found[n] - g) / 2e-2).flatten() for n, g in problem.gradient.items()]
            return torch.cat([*misfit, prior.whiten(x).flatten()])

        for _ in range(4):
            J = torch.func.jacrev(residual)(x).flatten(1)
            x = x - torch.linalg.lstsq(J, residual(x)[:, None]).solution.view_as(x)
        reached.append(float((x - image).square().mean()))
        promised.append(float(cramer_rao_bound(problem, truth, prior).variance.mean()))
    assert np.mean(reached) == pytest.approx(np.mean(promised), rel=0.15)
    assert np.mean(promised) < 0.5 * float(prior.variance.mean())  # the update tells something


def test_gauss_newton_attains_the_bound_and_does_not_beat_it(tiny_net):
    """On images of its own prior: within the sampling error of their mean squared error."""
    draw = torch.Generator().manual_seed(0)
    small = 0.5 + 0.35 * (torch.rand(60, 1, 3, 3, generator=draw) - 0.5)
    public = Prior(nn.functional.interpolate(small, size=(8, 8), mode="bilinear"))
    reached, promised = [], []
    for seed, image in enumerate(public.gaussian.sample(8, generator=draw).float().split(1)):
        problem, truth = posed(
            tiny_net(seed=3), image, torch.tensor([seed % 3]), scale=1e-3, seed=seed
        )
        threat = dataclasses.replace(problem.threat, labels=truth.labels)
        problem = dataclasses.replace(problem, prior=public, threat=threat)
        found = GaussNewton(start="mean").run(problem, seed=seed)
        reached.append(float((found.images - image).square().mean()))
        promised.append(float(cramer_rao_bound(problem, truth, public.gaussian).variance.mean()))
    error = np.std(np.subtract(reached, promised), ddof=1) / len(reached) ** 0.5
    assert abs(np.mean(reached) - np.mean(promised)) < 3 * error
    assert error < 0.2 * np.mean(promised)
    assert np.mean(promised) < 0.1 * float(public.gaussian.variance.mean())


def test_the_noise_is_the_channel_s_where_it_adds_any(tiny_net):
    problem, truth = posed(tiny_net(), draw_images(1), torch.tensor([1]), scale=1e-3)
    for name, value in noise_deviation(problem.to(torch.float64), truth).items():
        assert value == pytest.approx(1e-3, rel=1e-2), name


def test_what_the_channel_does_not_tell_of_leaves_no_bound(tiny_net):
    """Noise under which an attacker that knew of it might see more than this would promise."""
    problem, truth = posed(tiny_net(), draw_images(1), torch.tensor([1]), scale=1e-3)
    unknown = dataclasses.replace(problem, threat=ThreatModel())
    with pytest.raises(BoundError, match=r"^client-00 in round 1: the true images leave .* unexpl"):
        cramer_rao_bound(unknown, truth, smooth_prior())


def test_rounding_alone_is_near_the_precision_of_float32(tiny_net):
    problem, truth = posed(tiny_net(), draw_images(1), torch.tensor([1]))
    exact = problem.to(torch.float64)
    right = exact.expected(exact.parameters, truth.images.double(), exact.targets(truth.labels))
    for name, value in noise_deviation(exact, truth).items():
        error = problem.gradient[name].double() - right[name]
        assert value == pytest.approx(float(error.square().mean().sqrt()), rel=1e-3), name
        assert value < 1e-6 * float(problem.gradient[name].abs().max()), name


def test_several_local_steps_are_unrolled(tiny_net, update):
    images, labels = draw_images(2), torch.tensor([0, 2])
    model = tiny_net(seed=3)
    seen = update(model, images, labels, TrainingRecipe(lr=0.1, batch_size=1))
    problem = build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8))
    truth = Truth(images=images, labels=labels, names=("a", "b"))
    exact = problem.to(torch.float64)
    expected = unrolled(exact, exact.parameters, images.double(), exact.targets(labels))
    for name, value in noise_deviation(exact, truth).items():
        rms = float((exact.gradient[name] - expected[name]).square().mean().sqrt())
        assert 0.999 * rms < value < 2 * rms, name  # no less than a float32 victim's own rounding
    assert bool((cramer_rao_bound(problem, truth, smooth_prior()).psnr > 30).all())


def test_an_estimate_of_several_images_is_not_begun_for_few_products(tiny_net):
    given = posed(tiny_net(), draw_images(2), torch.tensor([0, 1]), scale=1e-3)
    product = FisherInformation(given[0].to(torch.float64), given[1], None).product
    budget = BoundBudget(method="stochastic", probes=1, work=9 * product, fewest=10)
    with pytest.raises(BoundError, match="^client-00 in round 1: no bound for 1 local steps on 2"):
        cramer_rao_bound(*given, smooth_prior(), budget=budget)
    enough = dataclasses.replace(budget, work=10 * product)
    assert not cramer_rao_bound(*given, smooth_prior(), budget=enough).converged
    one = posed(tiny_net(), draw_images(1), torch.tensor([0]), scale=1e-3)
    assert cramer_rao_bound(*one, smooth_prior(), budget=budget).method == "stochastic"


def test_what_has_no_bound_is_told_in_one_line(tiny_net, update, monkeypatch):
    images, labels = draw_images(2), torch.tensor([0, 2])
    model = tiny_net()
    seen = update(model, images, labels, TrainingRecipe(lr=0.1, batch_size=1, local_epochs=20))
    problem = build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8))
    truth = Truth(images=images, labels=labels, names=("a", "b"))
    with pytest.raises(BoundError, match="^client-00 in round 1: no bound for 40 local steps on 2"):
        cramer_rao_bound(problem, truth, budget=BoundBudget(work=1e8))
    monkeypatch.setattr("adversary.bounds.fisher_information.MEMORY_BYTES", 2**16)
    with pytest.raises(BoundError, match="^client-00 in round 1: no bound for 40 local steps, who"):
        cramer_rao_bound(problem, truth)
    one = Truth(images=images[:1], labels=labels[:1], names=("a",))
    with pytest.raises(BoundError, match=r"^client-00 in round 1: \(1, 1, 8, 8\) true images, the"):
        cramer_rao_bound(problem, one)


def test_an_update_that_does_not_determine_the_images(tiny_net):
    """More pixels than equations, and no prior."""
    problem, truth = posed(Linear(64, 2), draw_images(3), torch.tensor([0, 1, 0]), scale=1e-3)
    with pytest.raises(BoundError, match="does not determine the images"):
        cramer_rao_bound(problem, truth)
    assert bool((cramer_rao_bound(problem, truth, smooth_prior()).variance > 0).all())


def test_the_same_seed_gives_the_same_estimate(tiny_net):
    given = posed(tiny_net(), draw_images(1), torch.tensor([1]), scale=1e-3)
    budget = BoundBudget(method="stochastic", probes=2, iterations=5)
    first, again, other = (
        cramer_rao_bound(*given, smooth_prior(), budget=budget, seed=s) for s in (1, 1, 2)
    )
    assert torch.equal(first.variance, again.variance)
    assert not torch.equal(first.variance, other.variance)


def local_update(model, images, labels, batches, recipe, *, members=None, noise=1e-3):
    """Return the problem and the truth of SGD on given batches, one list of steps a member."""
    examples = list(members.values()) if members else [len(images)]
    total = {}
    for n, own in zip(examples, batches, strict=True):
        moved = local_sgd(model, images, labels, own, momentum=recipe.momentum)
        for name, value in moved.items():
            total[name] = total.get(name, 0) + n / sum(examples) * value
    sent = {n: v.clone() for n, v in model.state_dict().items()}
    observation = Observation(
        round=1,
        client="client-00",
        sent=sent,
        returned=sent | {n: sent[n] + v for n, v in total.items()},
        num_examples=sum(examples),
        recipe=recipe,
        view="aggregate" if members else "client",
        members=members or {},
    )
    threat = ThreatModel(channel=Channel(noise=dict.fromkeys(total, noise)))
    problem = build_problem(observation, threat, model, image_shape=(1, 8, 8), dtype=torch.float64)
    names = tuple(map(str, range(len(images))))
    return problem, Truth(images=images, labels=labels, names=names, batches=batches)


SGD_ONE = TrainingRecipe(lr=0.1, batch_size=1)
UPDATES = {
    "batch of 2": (2, dataclasses.replace(SGD, batch_size=2), (steps([0, 1]),), None),
    "batch of 4": (4, dataclasses.replace(SGD, batch_size=4), (steps([0, 1, 2, 3]),), None),
    "two steps of one": (2, SGD_ONE, (steps([1], [0]),), None),
    "two epochs": (2, EPOCHS, (steps([0], [1], [1], [0]),), None),
    "aggregate": (
        3,
        SGD,
        (steps([0]), steps([1, 2])),
        {"client-00": 1, "client-01": 2},
    ),
}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("case", "norm"),
    [*((case, False) for case in UPDATES), ("batch of 2", True), ("batch of 4", True)],
)
def test_who_knows_the_others_has_the_image_s_diagonal_block(tiny_net, case, norm, seed):
    """Against inverses of the blocks of the matrix of all images, which is checked above."""
    count, recipe, batches, members = UPDATES[case]
    model = tiny_net(seed=seed, norm=norm).double().train()
    images, labels = draw_images(count, seed).double(), torch.arange(count) % 3
    recipe = dataclasses.replace(recipe, batch_norm="train")
    problem, truth = local_update(model, images, labels, batches, recipe, members=members)
    prior = smooth_prior()
    matrix = FisherInformation(problem, truth, prior).dense()
    blocks = [matrix[i : i + 64, i : i + 64] for i in range(0, len(matrix), 64)]
    alone = torch.stack([torch.linalg.inv(block).diagonal() for block in blocks])
    given = problem, truth, prior
    found = cramer_rao_bound(*given, budget=DENSE, scope="others known")
    whole = cramer_rao_bound(*given, budget=DENSE)
    torch.testing.assert_close(found.variance.flatten(1), alone, rtol=1e-6, atol=0)
    assert (found.scope, whole.scope) == ("others known", "all images unknown")
    assert bool((found.psnr >= whole.psnr).all())
    assert bool((found.psnr > whole.psnr + 0.01).any())


def test_of_clipped_images_it_is_that_block_too(tiny_net):
    """A Poisson batch of DP-SGD: the sum is over the batch, divided by its expected size."""
    model, images = tiny_net(seed=3).double(), draw_images(3).double()
    labels, batches = torch.arange(3), steps([0, 1, 2])
    moved = local_sgd(model, images, labels, batches, clip=0.4, expected=2)
    sent = {n: v.clone() for n, v in model.state_dict().items()}
    observation = Observation(
        round=1, client="client-00", sent=sent, num_examples=6,
        returned=sent | {n: sent[n] + v for n, v in moved.items()},
        recipe=TrainingRecipe(lr=0.1, batch_size=2, max_steps=1),
    )  # fmt: skip
    channel = Channel(noise=dict.fromkeys(moved, 1e-3), example_clip=0.4)
    problem = build_problem(
        observation, ThreatModel(channel=channel), model, image_shape=(1, 8, 8), dtype=torch.float64
    )
    truth = Truth(images=images, labels=labels, names=("",) * 3, batches=(batches,))
    information = FisherInformation(problem, truth, smooth_prior())
    matrix = information.dense()
    for i in range(3):
        block = matrix[64 * i : 64 * (i + 1), 64 * i : 64 * (i + 1)]
        torch.testing.assert_close(
            information.of_image(i).dense(), block, rtol=1e-8, atol=1e-10 * float(block.max())
        )


def test_of_a_single_image_both_are_the_same(tiny_net):
    given = posed(tiny_net(), draw_images(1), torch.tensor([1]), scale=1e-3)
    found, alone = (
        cramer_rao_bound(*given, smooth_prior()),
        cramer_rao_bound(*given, smooth_prior(), scope="others known"),
    )
    assert torch.equal(found.variance, alone.variance)
    assert (found.scope, alone.scope) == ("all images unknown", "others known")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("batch", [2, 4])
def test_where_probes_fail_it_is_the_bound_with_the_others_known(
    tiny_net, monkeypatch, batch, seed
):
    model = tiny_net(seed=seed)
    given = posed(model, draw_images(batch, seed), torch.arange(batch) % 3, scale=1e-3)
    exact = cramer_rao_bound(*given, smooth_prior(), budget=DENSE)
    monkeypatch.setattr("adversary.bounds.cramer_rao.MAX_STANDARD_ERROR", 0.0)
    no_estimate = BoundBudget(operations=0.0, probes=1, iterations=30)
    with pytest.raises(NoEstimateError):
        cramer_rao_bound(*given, smooth_prior(), budget=no_estimate, scope="all images unknown")
    found = cramer_rao_bound(*given, smooth_prior(), budget=no_estimate)
    assert (found.scope, found.method, found.converged) == ("others known", "dense", True)
    assert bool((found.psnr >= exact.psnr).all())
    never = BoundBudget(method="stochastic", probes=8, iterations=30)
    rough = cramer_rao_bound(
        *given, smooth_prior(), budget=never
    )  # not even exact ones are allowed
    assert (rough.scope, rough.converged) == ("others known", False)
    assert bool((rough.psnr + 3 * rough.error >= found.psnr).all())


def test_the_last_resort_is_the_inverse_of_the_mean_diagonal():
    """Exact where the diagonal is even, an upper limit elsewhere."""
    information = Known(torch.diag(falling(1.0)))
    information.shape = (1, 1, 8, 16)
    found = _least(information, BoundBudget(probes=2), 0)
    assert found.psnr.tolist() == pytest.approx([10 * math.log10(float(falling(1.0).mean()))])
    assert not found.converged
    assert bool((found.variance.sum() <= (1 / falling(1.0)).sum()).all())


def test_memory_that_does_not_hold_all_images_may_hold_each(tiny_net, monkeypatch):
    given = posed(tiny_net(), draw_images(2), torch.tensor([0, 1]), scale=1e-3)
    alone = cramer_rao_bound(*given, smooth_prior(), scope="others known")
    real = FisherInformation.dense

    def too_little(self):
        if len(self.images) > 1:
            raise MemoryError
        return real(self)

    monkeypatch.setattr(FisherInformation, "dense", too_little)
    found = cramer_rao_bound(*given, smooth_prior())
    assert found.scope == "others known"
    assert torch.equal(found.variance, alone.variance)
    monkeypatch.setattr(FisherInformation, "__init__", raising(MemoryError()))
    with pytest.raises(NoEstimateError, match="does not fit into memory"):
        cramer_rao_bound(*given, smooth_prior())


def raising(error):
    def call(*_, **__):
        raise error

    return call


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("iterations", [2, 12])
def test_what_was_cut_short_is_an_upper_limit_for_every_image(tiny_net, iterations, seed):
    given = posed(tiny_net(seed=seed), draw_images(3, seed), torch.arange(3), scale=1e-3)
    exact = cramer_rao_bound(*given, smooth_prior(), budget=DENSE)
    budget = BoundBudget(method="stochastic", probes=4, iterations=iterations)
    for scope in ("all images unknown", "others known", None):
        found = cramer_rao_bound(*given, smooth_prior(), budget=budget, scope=scope, seed=seed)
        assert bool((found.psnr + 3 * found.error >= exact.psnr).all())


def test_the_lower_of_both_is_given(tiny_net):
    """Of an estimate of all images that was cut off at once, and one of each that was not."""
    given = posed(tiny_net(seed=3), draw_images(4), torch.arange(4) % 3, scale=1e-2)
    product = FisherInformation(given[0].to(torch.float64), given[1], None).product
    early = BoundBudget(method="stochastic", probes=4, enough=0.1, work=8 * product)
    together = cramer_rao_bound(*given, smooth_prior(), budget=early, scope="all images unknown")
    alone = cramer_rao_bound(*given, smooth_prior(), budget=early, scope="others known")
    found = cramer_rao_bound(*given, smooth_prior(), budget=early)
    assert not together.converged
    lower = together if together.psnr.max() <= alone.psnr.max() else alone
    assert found.scope == lower.scope


def test_more_steps_than_are_unrolled_have_the_bound_with_the_others_known(tiny_net, update):
    images, labels = draw_images(2), torch.tensor([0, 2])
    model = tiny_net(seed=3)
    recipe = TrainingRecipe(lr=0.1, batch_size=1, local_epochs=10)
    problem = build_problem(
        update(model, images, labels, recipe), ThreatModel(), model, image_shape=(1, 8, 8)
    )
    truth = Truth(images=images, labels=labels, names=("a", "b"))
    found = cramer_rao_bound(problem, truth, smooth_prior())
    assert found.scope == "others known"
    whole = cramer_rao_bound(problem, truth, smooth_prior(), scope="all images unknown")
    assert bool((found.psnr >= whole.psnr).all())


def test_of_blends_it_is_told_by_patient(tiny_net):
    """The second patient is in both blends: its bound is that of the one that is told better."""
    images, labels, model = draw_images(3), torch.tensor([0, 1, 2]), tiny_net(seed=3)
    sources = torch.tensor([[0, 1], [1, 2]])
    share = torch.tensor([0.7, 0.6])[:, None]
    soft = share * torch.eye(3)[[0, 1]] + (1 - share) * torch.eye(3)[[1, 2]]
    mixed = share[..., None, None] * images[:2] + (1 - share[..., None, None]) * images[1:]
    loss = nn.functional.cross_entropy(model(mixed), soft)
    gradient = torch.autograd.grad(loss, list(model.parameters()))
    returned = {n: g for (n, _), g in zip(model.named_parameters(), gradient, strict=True)}
    recipe = TrainingRecipe(lr=1, batch_size=2, update="gradient")
    seen = Observation(
        round=1, client="client-00", sent=model.state_dict(), returned=returned, num_examples=2,
        recipe=recipe,
    )  # fmt: skip
    problem = build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8))
    blends = Blends(images=mixed, labels=soft, sources=sources, batches=(steps([0, 1]),))
    truth = Truth(
        images=images, labels=labels, names=("a", "b", "c"), batches=(steps([0, 1]),),
        blends=blends,
    )  # fmt: skip
    found = cramer_rao_bound(problem, truth, smooth_prior(), budget=DENSE)
    each = cramer_rao_bound(
        problem, Truth(images=mixed, labels=soft, names=("", "")), smooth_prior(), budget=DENSE
    )
    assert found.subject == "blends"
    one, two = each.psnr.tolist()
    assert found.psnr.tolist() == [one, max(one, two), two]
    with pytest.raises(BoundError, match="unexplained"):
        cramer_rao_bound(problem, dataclasses.replace(truth, blends=None), smooth_prior())


def test_what_conjugate_gradients_lack_is_part_of_the_stated_error(monkeypatch):
    """Of the identity signs tell the diagonal without error: nothing else is in it."""
    information = Known(torch.eye(128, dtype=torch.float64))
    for lacking, error in ((0.0, 0.0), (0.02, 10 / math.log(10) * 0.02), (0.5, 0.0)):
        monkeypatch.setattr(
            "adversary.bounds.cramer_rao._solve", lambda _, z, *__, n=lacking: (z, n, 1)
        )
        found = _stochastic(information, BoundBudget(probes=1, tolerance=0.03), 0)
        assert found.converged == (lacking < 0.03)
        assert found.error.tolist() == pytest.approx([error] * 2)


@pytest.mark.parametrize("noise_of", [1e-3, 1.0, 30.0])
def test_a_control_variate_leaves_the_estimate_right_and_makes_it_finer(tiny_net, noise_of):
    given = posed(tiny_net(seed=3), draw_images(2), torch.tensor([0, 1]), scale=noise_of)
    real = FisherInformation(given[0].to(torch.float64), given[1], smooth_prior())
    information = Known(real.dense())
    information.controls, information.preconditioner = real.controls, real.preconditioner
    exact = cramer_rao_bound(*given, smooth_prior(), budget=DENSE)
    budget = BoundBudget(probes=2)
    found = [_stochastic(information, budget, seed) for seed in range(20)]
    missed = torch.stack([one.psnr - exact.psnr for one in found])
    stated = torch.stack([one.error for one in found]).square().mean().sqrt()
    assert missed.square().mean().sqrt() < 1.5 * stated + 0.01
    information.controls = ()
    plain = torch.stack([_stochastic(information, budget, s).error for s in range(20)])
    assert stated <= plain.square().mean().sqrt()
    if noise_of == 30.0:  # the prior is nearly all there is
        assert stated < 0.2 * plain.square().mean().sqrt()


def test_a_client_s_own_rounding_adds_to_the_noise_of_the_channel(tiny_net):
    """In float32, where large sums cancel: with noise far below it the rounding counts."""
    problem, truth = posed(tiny_net(), draw_images(4), torch.tensor([0, 1, 2, 0]))
    exact = problem.to(torch.float64)
    expected = exact.expected(exact.parameters, truth.images.double(), exact.targets(truth.labels))
    low = problem.expected(problem.parameters, truth.images, problem.targets(truth.labels))
    told = dataclasses.replace(
        exact, threat=ThreatModel(channel=Channel(noise=dict.fromkeys(exact.gradient, 1e-12)))
    )
    for name, value in noise_deviation(told, truth).items():
        own = float((low[name] - expected[name]).square().mean().sqrt())
        assert value >= 0.99 * own, name
        assert value == pytest.approx(math.hypot(told.noise(name), own), rel=1e-3), name


def test_an_aggregate_of_unequal_steps_has_the_weight_decay_of_each(tiny_net):
    """Members' decays do not add up to that of the mean's own step size."""
    recipe = dataclasses.replace(SGD_ONE, weight_decay=0.5, batch_norm="eval")
    model = tiny_net(seed=3).double()
    images, labels = draw_images(3).double(), torch.arange(3)
    members, batches = {"client-00": 1, "client-01": 2}, (steps([0]), steps([1], [2]))
    sent = {n: v.clone() for n, v in model.state_dict().items()}
    total = dict.fromkeys(sent, 0.0)
    for n, own in zip(members.values(), batches, strict=True):
        client = copy.deepcopy(model)
        optimiser = torch.optim.SGD(client.parameters(), lr=0.1, weight_decay=0.5)
        for batch in own:
            optimiser.zero_grad()
            nn.functional.cross_entropy(client(images[batch]), labels[batch]).backward()
            optimiser.step()
        for name, value in client.state_dict().items():
            total[name] = total[name] + n / 3 * value
    seen = Observation(
        round=1, client="all", sent=sent, returned=total, num_examples=3, recipe=recipe,
        view="aggregate", members=members,
    )  # fmt: skip
    problem = build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8), dtype=torch.float64)
    truth = Truth(images=images, labels=labels, names=("",) * 3, batches=batches)
    for name, value in noise_deviation(problem, truth).items():  # explained to the last digits
        assert value < 1e-5 * float(problem.gradient[name].abs().max()), name
    assert bool((cramer_rao_bound(problem, truth, smooth_prior()).psnr > 30).all())


@pytest.mark.parametrize("bits", [1, 6, 12])
def test_levels_have_the_bound_of_their_limits(bits, tiny_net, update):
    """More levels tell more; nobody reaches what the values themselves tell."""
    model, draw = tiny_net(seed=1), torch.Generator().manual_seed(3)
    image = torch.rand(1, 1, 8, 8, generator=draw)
    seen = update(model, image, torch.tensor([1]), TrainingRecipe(lr=0.1, batch_size=1))
    prior = GaussianPrior.fit(torch.rand(24, 1, 8, 8, generator=draw))
    truth = Truth(images=image, labels=torch.tensor([1]), names=("x",))

    def bound(observation, channel):
        threat = ThreatModel(channel=channel)
        problem = build_problem(observation, threat, model, image_shape=(1, 8, 8))
        return cramer_rao_bound(problem, truth, prior, budget=DENSE)

    mechanism = Quantised(bits=bits)
    sent = dataclasses.replace(
        seen, returned=mechanism.release(seen.sent, seen.returned, generator=draw)
    )
    whole, limited = bound(seen, Channel()), bound(sent, mechanism.channel(sent))
    alone = -10 * float(prior.variance.mean().log10())
    assert alone < float(limited.psnr[0]) < float(whole.psnr[0]) + 1
    threat = ThreatModel(channel=mechanism.channel(sent))
    problem = build_problem(sent, threat, model, image_shape=(1, 8, 8))
    with pytest.raises(BoundError, match="takes the whole matrix"):
        cramer_rao_bound(problem, truth, prior, budget=BoundBudget(method="stochastic"))
