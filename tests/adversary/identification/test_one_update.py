import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional as F

from adversary.common.seeding import generator
from adversary.identification import (
    Gallery,
    IdentificationError,
    ceilings,
    figures,
    identify,
    null,
    one_update,
)
from adversary.identification.evidence import NothingTrainedError, Update, features, read
from adversary.identification.likelihood_ratio import clipped_rows, log_ratios
from adversary.identification.one_update import _Attack
from adversary.identification.per_example import UnreadableModelError, blocks, parts, readable
from adversary.identification.regression import directions, regress
from adversary.identification.rehearsal import gains, in_training_mode, rehearse
from adversary.observation.channel import Channel
from adversary.observation.observation import Observation
from adversary.observation.recipe import TrainingRecipe
from adversary.observation.threat_model import ThreatModel
from adversary.priors.public import Prior
from fl_sim.models import create
from fl_sim.training.local_training import train


def draw(count, seed):
    """Images of blurred noise and labels that hang on them."""
    noise = torch.randn(count, 1, 12, 12, generator=torch.Generator().manual_seed(seed))
    images = torch.sigmoid(2 * F.avg_pool2d(noise, 3, 1, 1) + noise / 2)
    return images, (images.mean((1, 2, 3)) > 0.5).long()


def network(name="convnet", **options):
    return create(name, channels=1, image_size=12, outputs=2, activation="gelu", seed=3, **options)


def trained(model, images, labels, recipe, seed=0):
    """An honest client's update."""
    sent = {n: v.clone() for n, v in model.state_dict().items()}
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    batches = [b for _ in range(recipe.local_epochs) for b in order.split(recipe.batch_size)]
    train(model, images, labels, recipe, batches, device="cpu")
    returned = {n: v.clone() for n, v in model.state_dict().items()}
    model.load_state_dict(sent)
    observation = Observation(
        round=1,
        client="client-00",
        sent=sent,
        returned=returned,
        num_examples=len(images),
        recipe=recipe,
    )
    return observation, batches


def whole(model, most=10**9):
    return blocks(dict(model.named_parameters()), most, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["convnet", "resnet18", "mobilenet", "convnext-tiny"])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("most", [10**9, 40])
def test_parts_sum_to_the_gradient(name, training, most):
    model = create(name, channels=1, image_size=32, outputs=2, seed=0).double().train(training)
    for module in model.modules():
        if isinstance(module, nn.Dropout) or "StochasticDepth" in type(module).__name__:
            module.eval()
    images = torch.rand(3, 1, 32, 32, dtype=torch.float64)
    labels = torch.tensor([0, 1, 1])
    state = {n: v.clone() for n, v in model.state_dict().items()}
    named = dict(model.named_parameters())
    named = {n: named[n] for n in readable(model, named)}
    kept = blocks(named, most, generator=torch.Generator().manual_seed(1))
    found = parts(
        model, state, images, lambda out: F.cross_entropy(out, labels, reduction="sum"), kept
    )
    model.load_state_dict(state)
    F.cross_entropy(model(images), labels, reduction="sum").backward()
    expected = torch.cat([kept[n].of(named[n].grad) for n in kept])
    torch.testing.assert_close(found.sum(0), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("groups", [2, 3, 6])
def test_parts_of_a_grouped_convolution_are_of_the_channels_of_their_group(groups):
    model = nn.Sequential(nn.Conv2d(6, 12, 3, groups=groups), nn.Flatten(), nn.Linear(192, 2))
    images, labels = torch.rand(3, 6, 6, 6), torch.tensor([0, 1, 1])
    loss = lambda out: F.cross_entropy(out, labels, reduction="sum")  # noqa: E731
    kept = whole(model, most=80)
    found = parts(model, {}, images, loss, kept).sum(0)
    model.zero_grad()
    loss(model(images)).backward()
    expected = torch.cat([kept[n].of(p.grad) for n, p in model.named_parameters()])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_parts_are_gradients_of_images_by_themselves():
    model = network()
    images, labels = draw(3, 0)
    kept = whole(model)
    loss = lambda y: lambda out: F.cross_entropy(out, y, reduction="sum")  # noqa: E731
    together = parts(model, {}, images, loss(labels), kept)
    for i in range(3):
        alone = parts(model, {}, images[i : i + 1], loss(labels[i : i + 1]), kept)
        torch.testing.assert_close(together[i], alone[0], rtol=1e-4, atol=1e-6)


def test_a_parameter_of_no_layer_is_named():
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 2))
    model.register_parameter("scale", nn.Parameter(torch.ones(3)))
    with pytest.raises(UnreadableModelError, match="scale: of a Sequential"):
        parts(model, {}, torch.rand(2, 1, 12, 12), torch.sum, whole(model))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": 0.9},
        {"weight_decay": 0.1},
        {"proximal_mu": 1.0},
        {"optimizer": "adam", "lr": 1e-3},
        {"schedule": "cosine"},
    ],
)
def test_a_rehearsal_trains_as_a_client_does(options):
    recipe = TrainingRecipe(**{"lr": 0.1, "batch_size": 4, "local_epochs": 2, **options})
    if not options:  # batch normalisation of single values doubles rounding from step to step
        recipe = dataclasses.replace(recipe, lr=0.002, batch_size=12)
    model = network("resnet18") if not options else network()
    images, labels = draw(12, 1)
    observation, _ = trained(model, images, labels, recipe)
    targets = F.one_hot(labels, 2).float()
    mode = in_training_mode(model, recipe)
    made = rehearse(
        mode,
        observation,
        (images, targets),
        steps=recipe.steps(12),
        generator=torch.Generator().manual_seed(5),
    )
    train(model, images, labels, recipe, made.batches, device="cpu")
    for name, value in model.state_dict().items():
        torch.testing.assert_close(made.weights[-1][name], value, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_gains_say_how_far_a_gradient_moves_weights(momentum):
    recipe = TrainingRecipe(lr=0.1, batch_size=1, momentum=momentum, schedule="cosine")
    found = gains(recipe, 5, [], ["w"])
    for step in range(5):
        weight = nn.Parameter(torch.zeros(()))
        optimizer = torch.optim.SGD([weight], lr=0.1, momentum=momentum)
        for now, rate in enumerate(recipe.rates(5)):
            optimizer.param_groups[0]["lr"] = rate
            weight.grad = torch.tensor(float(now == step))
            optimizer.step()
        assert float(found[step]["w"]) == pytest.approx(-float(weight), rel=1e-5)


def test_gains_of_adam_are_its_moving_average_over_the_roots_that_it_had():
    recipe = TrainingRecipe(lr=0.1, batch_size=1, optimizer="adam", schedule="cosine")
    roots = [torch.tensor([1.0, 2.0 + k]) for k in range(4)]
    found = gains(recipe, 4, [{"w": root} for root in roots], ["w"])
    for step in range(4):
        average, moved = torch.zeros(2), torch.zeros(2)
        for now, rate in enumerate(recipe.rates(4)):
            average = 0.9 * average + 0.1 * float(now == step)
            moved = moved + rate * average / (1 - 0.9 ** (now + 1)) / roots[now]
        torch.testing.assert_close(found[step]["w"], moved)


@pytest.mark.parametrize("name", ["convnet", "resnet18"])
@pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "weight_decay": 0.01}])
def test_one_step_is_the_sum_of_its_images(name, options):
    # With the true images in one batch every equation holds to rounding, buffers too.
    recipe = TrainingRecipe(lr=0.1, batch_size=6, **options)
    model = network(name).double()  # with one value an image deep layers amplify rounding
    images, labels = draw(6, 2)
    images = images.double()
    observation, _ = trained(model, images, labels, recipe)
    mode, targets = in_training_mode(model, recipe), F.one_hot(labels, 2).float()
    draws = torch.Generator().manual_seed(0)
    made = rehearse(mode, observation, (images, targets), steps=1, generator=draws)
    update = read(mode, observation, Channel(), [made], most=10**9, generator=draws)
    rows = features(mode, update, images, targets, observation, Channel(), generator=draws)
    summed = rows.sum((0, 1))
    for (array, _), own, told in zip(
        update.sizes.items(),
        summed.split(list(update.sizes.values())),
        update.data.split(list(update.sizes.values())),
        strict=True,
    ):
        torch.testing.assert_close(
            own, told, rtol=2e-3, atol=2e-5 + 1e-3 * float(told.abs().max()), msg=array
        )


def test_regression_finds_orthogonal_members():
    rows = 3 * torch.eye(40)[None]
    data = rows[0, :10].sum(0)
    fit = regress(data, rows, torch.zeros(1, 0, 40))
    torch.testing.assert_close(fit.share[:10], fit.resolution[:10])
    assert fit.share[10:].abs().max() < 1e-9
    assert fit.resolution.min() > 0.99


def test_known_noise_makes_the_regression_the_best_linear_test():
    draws = torch.Generator().manual_seed(0)
    row = torch.randn(1, 1, 200, generator=draws)
    noise = torch.rand(200, generator=draws) * 30 + 10
    fit = regress(row[0, 0], row, torch.zeros(1, 0, 200), noise=noise)
    matched = (row[0, 0] / noise).norm()  # of the matched filter: expectation over deviation
    assert float(fit.expected) == pytest.approx(float(matched), rel=1e-2)


def test_directions_are_those_of_change():
    parts = torch.zeros(1, 4, 6)
    parts[0, :, 0] = 1.0
    parts[0, :, 1] = torch.tensor([-1.0, 1.0, -1.0, 1.0])
    found = directions(parts, 0.5, most=1)
    assert found.shape == (2, 1, 6)
    torch.testing.assert_close(found[0, 0], torch.tensor([4.0, 0, 0, 0, 0, 0]))
    assert found[1, 0, 1].abs() == pytest.approx(0.5 * 4 * 2)


def test_p_values_of_the_null_are_uniform():
    draws = torch.Generator().manual_seed(0)
    found = torch.cat([
        null.p_values(null.standardised(scores, torch.ones(26), 1).values, 25)
        for scores in torch.randn(3000, 26, generator=draws)
    ])  # fmt: skip
    assert stats.kstest(found.numpy(), "uniform").pvalue > 0.01


@pytest.mark.parametrize("seed", range(3))
def test_a_p_value_is_that_of_the_t_test_of_one_against_the_null(seed):
    draws = torch.Generator().manual_seed(seed)
    score, others = torch.randn(1, generator=draws) + 1, torch.randn(25, generator=draws)
    standard = null.standardised(torch.cat([score, others]), torch.ones(26), 1)
    found = null.p_values(standard.values, 25)
    theirs = stats.ttest_ind(score.double(), others.double(), alternative="greater").pvalue
    assert float(found) == pytest.approx(float(theirs), rel=1e-6)


def test_too_small_a_null_is_refused():
    with pytest.raises(null.NullError, match="19 public X-rays are left for the null"):
        null.standardised(torch.zeros(22), torch.zeros(22), 3)


def test_names_are_benjamini_and_hochbergs():
    p = torch.tensor([0.9, 0.001, 0.02, 0.04, 0.011], dtype=torch.float64)
    expected = stats.false_discovery_control(p.numpy()) <= 0.05
    assert null.named(p).tolist() == expected.tolist()
    assert not null.named(torch.full((4,), 0.5)).any()


def test_auc_and_power():
    members, others = torch.tensor([3.0, 2.0, 1.0]), torch.tensor([2.0, 0.0, 0.0, -1.0])
    assert figures.auc(members, others) == pytest.approx((4 + 3.5 + 3) / 12)
    assert figures.auc(members, members[:0]) is None
    assert figures.power(members, others, 0.0).rate == pytest.approx(1 / 3)
    assert figures.power(members, others, 0.25).rate == 1.0
    found = figures.interval(0, 10)
    assert found[0] == 0.0
    assert found[1] == pytest.approx(1 - 0.025 ** (1 / 10))
    assert figures.first_among(members, others) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("epsilon", "among", "expected"), [(1, 10, 0.155), (3, 100, 0.054), (8, 2846, 0.043)]
)
def test_ceilings_of_identification(epsilon, among, expected):
    mu = ceilings.gaussian_mu(epsilon, 1e-5)
    assert ceilings.identification(mu, among) == pytest.approx(expected, rel=0.02)
    assert ceilings.gaussian_delta(mu, epsilon) == pytest.approx(1e-5, rel=1e-6)
    assert ceilings.identification(mu, among) <= ceilings.private_power(epsilon, 1e-5, 1 / among)


def test_epsilon_lower_is_valid_and_near():
    # Randomised response at eps: the best test has rates e^eps/(1+e^eps) and 1/(1+e^eps).
    epsilon, draws = 2.0, torch.Generator().manual_seed(0)
    right = math.exp(epsilon) / (1 + math.exp(epsilon))
    found = []
    for _ in range(200):
        hits, false = (
            int((torch.rand(2000, generator=draws) < rate).sum()) for rate in (right, 1 - right)
        )
        found.append(ceilings.epsilon_lower(hits, 2000, false, 2000, 0.0))
    assert sum(one > epsilon for one in found) <= 14  # 5 % of 200, and its own spread
    assert min(found) > 0.8 * epsilon
    assert ceilings.epsilon_lower(50, 100, 50, 100, 1e-5) == 0.0


@pytest.mark.parametrize(("hits", "false"), [(1000, 500), (950, 5), (900, 899), (400, 30)])
def test_calling_out_those_who_are_not_in_it_proves_as_much(hits, false):
    """Of a test and its opposite, members and others exchanged, the epsilon is the same."""
    found = ceilings.epsilon_lower(hits, 1000, false, 1000, 1e-3)
    opposite = ceilings.epsilon_lower(1000 - false, 1000, 1000 - hits, 1000, 1e-3)
    assert found == pytest.approx(opposite, rel=1e-9)
    assert (found > 4) == (hits in (1000, 950))


def test_the_likelihood_ratio_reaches_the_ceiling():
    draws = torch.Generator().manual_seed(0)
    part = clipped_rows(torch.randn(1, 50, generator=draws), 1.0)[0]
    others, mu = torch.randn(50, generator=draws), 2.0
    noise = torch.randn(2, 20000, 50, generator=draws) / mu
    out, into = (log_ratios(others + z * part + noise[z], others, part, 1 / mu) for z in (0, 1))
    assert float(into.mean()) == pytest.approx(mu**2 / 2, abs=0.05)
    for alarms in (0.01, 0.1):
        threshold = mu * stats.norm.ppf(1 - alarms) - mu**2 / 2
        reached = float((into > threshold).double().mean())
        assert reached == pytest.approx(ceilings.gaussian_power(mu, alarms), abs=0.015)
        assert float((out > threshold).double().mean()) == pytest.approx(alarms, abs=0.01)


@pytest.mark.parametrize("epsilon", [1.0, 3.0, 8.0])
def test_epsilon_lower_of_a_gaussian_mechanism_is_near_the_claim_and_below(epsilon):
    mu, count = ceilings.gaussian_mu(epsilon, 1e-5), 100_000
    assert ceilings.gaussian_epsilon(mu, 1e-5) == pytest.approx(epsilon)
    hits = round(ceilings.gaussian_power(mu, 0.1) * count)
    found = ceilings.gaussian_epsilon_lower(hits, count, count // 10, count, 1e-5)
    assert 0.9 * epsilon < found < epsilon
    # Noise by a sensitivity of half the clipping norm: the account is wrong, and proved so.
    hits = round(ceilings.gaussian_power(2 * mu, 0.1) * count)
    assert ceilings.gaussian_epsilon_lower(hits, count, count // 10, count, 1e-5) > epsilon


def test_known_noise_is_that_of_the_update_before_it_was_scaled_down():
    arrays = {"w": torch.zeros(4, 3), "limits": torch.zeros(5), "clear": torch.zeros(2)}
    kept = blocks(arrays, 6, generator=torch.Generator().manual_seed(0))
    update = Update(
        moved=arrays, points=[], entries=kept, layers=[], images=1.0, batch_size=1, epochs=1.0,
        gain=[], bridge=None, clip_factor=0.25, noise={"limits": torch.arange(5.0)},
    )  # fmt: skip
    attack = SimpleNamespace(channel=Channel(noise={"w": 0.5, "limits": 9.0}))
    found = _Attack._noise(attack, update).split([block.size for block in kept.values()])
    assert [set(one.tolist()) for one in found] == [{2.0}, {0.0, 1.0, 2.0, 3.0, 4.0}, {0.0}]


RECIPE = TrainingRecipe(lr=0.05, batch_size=8)


def case(name="convnet", recipe=RECIPE, members=24):
    model = network(name)
    images, labels = draw(members * 2, 7)
    observation, _ = trained(model, images[:members], labels[:members], recipe)
    names = tuple(f"patient {i}" for i in range(members * 2))
    return (
        observation,
        model,
        Gallery(images=images, labels=labels, names=names),
        Prior(*draw(160, 8)),
    )


def scored(found, members):
    return figures.auc(found.posteriors[:members], found.posteriors[members:])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("convnet", {}),
        ("convnet", {"momentum": 0.9, "lr": 0.005, "weight_decay": 0.01}),
        ("convnet", {"optimizer": "adam", "lr": 3e-4}),
        ("resnet18", {"batch_size": 24}),
    ],
)
def test_members_are_named(name, options):
    recipe = TrainingRecipe(**{"lr": 0.05, "batch_size": 8, **options})
    observation, model, gallery, public = case(name, recipe)
    found = identify(observation, ThreatModel(), model, gallery, public, seed=1)
    assert scored(found, 24) > 0.9
    assert float(found.posteriors[:24].mean()) > float(found.posteriors[24:].mean()) + 0.3


def test_labels_need_not_be_known():
    observation, model, gallery, public = case()
    unlabelled = Gallery(images=gallery.images, names=gallery.names)
    found = identify(observation, ThreatModel(), model, unlabelled, public, seed=1)
    assert scored(found, 24) > 0.9
    assert "labels-guessed" in found.flags


def test_an_update_of_others_says_nothing():
    _, model, gallery, public = case()
    members = []
    for seed in range(4):
        images, labels = draw(24, 100 + seed)
        other, _ = trained(model, images, labels, RECIPE, seed)
        found = identify(other, ThreatModel(), model, gallery, public, seed=seed)
        members.append(scored(found, 24))
    assert sum(members) / 4 == pytest.approx(0.5, abs=3 * 0.085 / 2)


def test_candidates_among_the_public_are_left_out():
    observation, model, gallery, public = case()
    images = torch.cat([gallery.images, public.images[:1], gallery.images[:1]])
    labels = torch.cat([gallery.labels, public.labels[:1], gallery.labels[:1]])
    more = Gallery(images=images, labels=labels, names=(*gallery.names, "public", "again"))
    found = identify(observation, ThreatModel(), model, more, public, seed=1)
    assert found.names == gallery.names
    assert "duplicates-left-out" in found.flags


def test_bad_input_is_one_line():
    observation, model, gallery, public = case()
    go = lambda **a: identify(  # noqa: E731
        **{"observation": observation, "threat": ThreatModel(), "model": model,
           "gallery": gallery, "public": public, **a}
    )  # fmt: skip
    with pytest.raises(IdentificationError, match="without public X-rays"):
        go(public=None)
    with pytest.raises(null.NullError, match="8 public X-rays are left for the null"):
        go(public=Prior(public.images[:20], public.labels[:20]))
    still = Observation(
        round=1,
        client="client-00",
        sent=observation.sent,
        returned=observation.sent,
        num_examples=24,
        recipe=RECIPE,
    )
    with pytest.raises(NothingTrainedError, match="no weight has moved"):
        go(observation=still)
    alone = Gallery(images=public.images[:2], labels=public.labels[:2], names=("a", "b"))
    with pytest.raises(IdentificationError, match="no candidate is left"):
        go(gallery=alone)


def test_directions_are_given_up_for_large_galleries_and_larger_ones_refused(monkeypatch):
    observation, model, gallery, public = case()
    assert observation.steps > 1
    monkeypatch.setattr(one_update, "MOST", 10**9)  # all entries are read
    images = len(gallery) + len(public.images)
    monkeypatch.setattr(one_update, "MOST_ROWS", 2 * images)
    ample = identify(observation, ThreatModel(), model, gallery, public, seed=1)
    monkeypatch.setattr(one_update, "MOST_ROWS", images)
    scarce = identify(observation, ThreatModel(), model, gallery, public, seed=1)
    assert ample.flags == ()
    assert scarce.flags == ("sketched",)
    assert scored(scarce, 24) > 0.9
    monkeypatch.setattr(one_update, "MOST_ROWS", images - 1)
    with pytest.raises(IdentificationError, match=f"{images} unknowns; must be at most"):
        identify(observation, ThreatModel(), model, gallery, public, seed=1)


def test_nothing_is_changed():
    observation, model, gallery, public = case()
    before = {n: v.clone() for n, v in model.state_dict().items()}
    state = torch.get_rng_state()
    first = identify(observation, ThreatModel(), model, gallery, public, seed=1)
    second = identify(observation, ThreatModel(), model, gallery, public, seed=1)
    torch.testing.assert_close(first.scores.values, second.scores.values, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())


def test_seeds_are_of_the_update():
    assert (
        generator(1, "identify", 1, "a").initial_seed()
        != generator(1, "identify", 2, "a").initial_seed()
    )


@pytest.mark.parametrize(
    ("images", "memory", "steps", "expected"),
    [
        (10**4, 10**9, 4, 8),  # the most
        (32, 10**9, 4, 5),  # 160 passes at five places, 32 for a rehearsal
        (10**4, 4 * 5 * 10 * 8, 4, 6),  # and two more for the mean path
        (1, 1, 4, 4),  # the fewest
        (10**4, 10**9, 1, 4),  # of one step the path is known
    ],
)
def test_rehearsals_take_no_more_passes_than_images(images, memory, steps, expected):
    seen = SimpleNamespace(recipe=RECIPE, images=20)
    attack = SimpleNamespace(observation=seen, model=nn.Linear(9, 1))
    assert _Attack._rehearsals_within(attack, images, memory, steps) == expected
