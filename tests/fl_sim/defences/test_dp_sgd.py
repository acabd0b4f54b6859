"""DP-SGD is the plain loop over examples, its noise and its account are what they say."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from adversary.observation.mean_gradient import total_step_size
from adversary.observation.observation import Observation
from adversary.observation.recipe import TrainingRecipe
from adversary.storage.run_folder import RunFolder
from fl_sim import defences
from fl_sim.defences import DefenceError
from fl_sim.defences.accounting import PrivacyError, noise_for_budget
from fl_sim.defences.base import is_buffer
from fl_sim.defences.dp_sgd import DpSgd, example_gradients, update_std
from fl_sim.engines.in_process import run_in_process
from fl_sim.federation import build_federation
from fl_sim.models import MODELS
from fl_sim.models import create as create_model
from fl_sim.training.local_training import LOSSES, TrainingError

SMALLEST = {
    "densenet121": 32,
    "convnext-tiny": 32,
    "resnet18": 16,
    "efficientnet-b0": 16,
    "efficientnet0": 16,
}
WITH_BATCH_NORM = ("resnet18", "densenet121", "resnet18-sigmoid", "efficientnet-b0")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def model_for(name="convnet", *, size=16, outputs=3):
    return create_model(name, channels=1, image_size=size, outputs=outputs)


def examples(count, *, loss="cross-entropy", size=16, outputs=3, seed=0):
    draw = generator(seed)
    images = torch.rand(count, 1, size, size, generator=draw)
    if loss == "bce":
        return images, torch.randint(2, (count, outputs), generator=draw)
    return images, torch.randint(outputs, (count,), generator=draw)


def train(defence, model, images, labels, recipe, batches, *, mu=0.0, seed=0):
    recipe = dataclasses.replace(recipe, proximal_mu=mu)
    return defence.train(model, images, labels, recipe, batches, generator=generator(seed))


def loop(model, images, labels, loss, weights=None):
    """The gradient of each image on its own, in float64."""
    model = copy.deepcopy(model).double()
    found = []
    for image, label in zip(images.double(), labels, strict=True):
        value = LOSSES[loss](model(image[None]), label[None], weights)
        found.append(torch.autograd.grad(value, list(model.parameters())))
    names = [n for n, _ in model.named_parameters()]
    return dict(zip(names, (torch.stack(g) for g in zip(*found, strict=True)), strict=True))


@pytest.mark.parametrize(
    ("name", "batch_norm"),
    [(name, "group") for name in MODELS] + [(name, "frozen") for name in WITH_BATCH_NORM],
)
def test_gradients_are_those_of_each_image_alone_in_every_model(name, batch_norm):
    size = SMALLEST.get(name, 8)
    defence = DpSgd(batch_norm=batch_norm)
    model = defence.model(model_for(name, size=size))
    recipe = defence.recipe(TrainingRecipe(lr=0.1, batch_size=2))
    model.train(recipe.batch_norm == "train")
    images, labels = examples(2, size=size)
    found, losses = example_gradients(model, LOSSES["cross-entropy"], images, labels)
    expected = loop(model, images, labels, "cross-entropy")
    scale = max(float(g.abs().max()) for g in expected.values())
    for key, gradient in expected.items():
        torch.testing.assert_close(found[key].double(), gradient, rtol=2e-3, atol=1e-4 * scale)
    mean = F.cross_entropy(model(images), labels)
    torch.testing.assert_close(losses.mean(), mean.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", ["cross-entropy", "bce"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("clip", [0.05, 1e6])
def test_without_noise_it_is_the_plain_loop_with_clipping(loss, momentum, clip, monkeypatch):
    monkeypatch.setattr("fl_sim.defences.dp_sgd.CHUNK_ENTRIES", 3 * 120_000)  # in parts
    images, labels = examples(9, loss=loss)
    recipe = TrainingRecipe(
        lr=0.2, batch_size=4, loss=loss, momentum=momentum, weight_decay=0.01, schedule="step",
        decay=0.5, decay_every=2, class_weights=(0.5, 1.0, 3.0),
    )  # fmt: skip
    weights = torch.tensor(recipe.class_weights).double()
    batches = [torch.tensor([0, 3, 4, 8, 1]), torch.tensor([], dtype=torch.int64),
               torch.tensor([2]), torch.arange(9)]  # fmt: skip
    mu = 0.3

    reference = model_for().double()
    sent = [p.detach().clone() for p in reference.parameters()]
    velocity = [torch.zeros_like(p) for p in sent]
    for batch, rate in zip(batches, (0.2, 0.2, 0.1, 0.1), strict=True):
        total = [torch.zeros_like(p) for p in sent]
        if len(batch):
            each = loop(reference, images[batch], labels[batch], loss, weights)
            norms = torch.stack([g.flatten(1).square().sum(1) for g in each.values()]).sum(0).sqrt()
            factors = (clip / norms).clamp(max=1)
            total = [torch.einsum("b,b...->...", factors, g) for g in each.values()]
        with torch.no_grad():
            for p, s, v, g in zip(reference.parameters(), sent, velocity, total, strict=True):
                v.mul_(momentum).add_(g / recipe.batch_size + mu * (p - s) + 0.01 * p)
                p.sub_(rate * v)

    model = model_for()
    defence = DpSgd(noise_multiplier=0.0, clip=clip)
    value = train(defence, model, images, labels, recipe, batches, mu=mu)
    assert value > 0
    for found, expected, start in zip(
        model.parameters(), reference.parameters(), sent, strict=True
    ):
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(expected, start, atol=1e-4)


@pytest.mark.parametrize(
    ("momentum", "weight_decay", "steps"), [(0.0, 0.0, 1), (0.0, 0.0, 5), (0.9, 0.0, 6),
                                            (0.8, 0.5, 4)]
)  # fmt: skip
def test_steps_without_images_leave_the_noise_that_the_attacker_is_told(
    momentum, weight_decay, steps
):
    recipe = TrainingRecipe(
        lr=0.3, batch_size=4, local_epochs=steps, momentum=momentum, weight_decay=weight_decay
    )
    defence = DpSgd(noise_multiplier=1.5, clip=0.7)
    model = model_for()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()  # nothing decays
    sent = copy.deepcopy(model.state_dict())
    images, labels = examples(4)
    nothing = [torch.tensor([], dtype=torch.int64)] * steps
    assert math.isnan(train(defence, model, images, labels, recipe, nothing))
    returned = model.state_dict()
    seen = Observation(
        round=1, client="client-00", sent=sent, returned=returned, num_examples=4, recipe=recipe
    )
    channel = defence.channel(seen)
    assert channel.example_clip == 0.7
    noise = torch.cat([v.flatten() for v in returned.values()])
    told = channel.noise["head.weight"]
    assert float(noise.std()) == pytest.approx(told, rel=0.03)
    if not (momentum or weight_decay):
        assert told == pytest.approx(0.3 * 1.5 * 0.7 / 4 * math.sqrt(steps))


def test_the_gain_of_plain_sgd_is_the_square_root_of_the_steps():
    recipe = TrainingRecipe(lr=0.1, batch_size=1)
    assert [update_std(recipe, k) for k in (1, 4, 9)] == pytest.approx([0.1, 0.2, 0.3])
    recipe = TrainingRecipe(lr=0.1, batch_size=1, schedule="step", decay=0.5, decay_every=1)
    assert update_std(recipe, 3) == pytest.approx(0.1 * (1 + 1 / 4 + 1 / 16) ** 0.5)


def test_noise_in_the_units_of_the_mean_gradient_falls_with_the_steps():
    # A server that divides the delta by its step size sees sigma C / (B sqrt(steps)).
    recipe = TrainingRecipe(lr=0.1, batch_size=2, local_epochs=9)
    state = {"w": torch.zeros(3)}
    seen = Observation(
        round=1, client="c", sent=state, returned=state, num_examples=2, recipe=recipe
    )
    noise = DpSgd(noise_multiplier=4.0, clip=0.5).channel(seen).noise["w"]
    assert noise / total_step_size(seen) == pytest.approx(4.0 * 0.5 / 2 / 3)


def test_in_an_aggregate_the_noise_of_the_members_is_averaged():
    recipe = TrainingRecipe(lr=0.1, batch_size=2, max_steps=1)
    state = {"w": torch.zeros(3), "bn.running_mean": torch.zeros(3)}
    alone = Observation(
        round=1, client="c", sent=state, returned=state, num_examples=4, recipe=recipe
    )
    together = dataclasses.replace(alone, view="aggregate", members={"a": 4, "b": 4, "c": 8})
    defence = DpSgd()
    ratio = defence.channel(together).noise["w"] / defence.channel(alone).noise["w"]
    assert ratio == pytest.approx(math.sqrt(0.25**2 + 0.25**2 + 0.5**2))
    assert defence.channel(alone).noise.keys() == {"w"}


def test_noise_comes_from_the_generator_alone():
    images, labels = examples(4)
    recipe = TrainingRecipe(lr=0.1, batch_size=2)
    batches = DpSgd().batches(4, recipe, seed=1, round=1, client=0)
    heads = []
    for state, seed in ((1, 5), (2, 5), (1, 6)):
        torch.manual_seed(state)
        model = model_for()
        train(DpSgd(), model, images, labels, recipe, batches, seed=seed)
        heads.append(model.head.weight.detach())
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_every_image_takes_part_with_the_sampling_rate_on_its_own():
    recipe = TrainingRecipe(lr=0.1, batch_size=3, local_epochs=1500)
    found = DpSgd().batches(12, recipe, seed=1, round=1, client=0)
    assert len(found) == recipe.steps(12) == 6000
    taken = torch.zeros(len(found), 12, dtype=torch.float64)
    for step, batch in enumerate(found):
        assert len(batch.unique()) == len(batch)
        taken[step, batch] = 1
    spread = math.sqrt(0.25 * 0.75 / len(found))
    assert (taken.mean(0) - 0.25).abs().max() < 5 * spread
    between = torch.corrcoef(taken.T) - torch.eye(12, dtype=torch.float64)
    assert between.abs().max() < 5 / math.sqrt(len(found))
    sizes = taken.sum(1)
    assert float(sizes.var()) == pytest.approx(12 * 0.25 * 0.75, rel=0.1)
    assert (sizes == 0).any()


def test_batches_are_a_pure_function_of_seed_round_and_client():
    recipe = TrainingRecipe(lr=0.1, batch_size=3, local_epochs=5)

    def draw(**changes):
        wanted = {"seed": 1, "round": 1, "client": 0} | changes
        return [b.tolist() for b in DpSgd().batches(12, recipe, **wanted)]

    assert draw() == draw()
    others = [draw(seed=2), draw(round=2), draw(client=1)]
    assert all(draw() != other for other in others)
    everyone = DpSgd().batches(3, recipe, seed=1, round=1, client=0)
    assert [b.tolist() for b in everyone] == [[0, 1, 2]] * 5


def test_a_client_without_images_is_told():
    with pytest.raises(TrainingError, match="has no images"):
        DpSgd().batches(0, TrainingRecipe(lr=1, batch_size=3), seed=1, round=1, client=0)


def test_a_client_with_fewer_images_than_a_batch_takes_all_in_each_step():
    """Nothing is sampled, so nothing amplified: it spends what a client of one batch does."""
    recipe = TrainingRecipe(lr=1, batch_size=10, local_epochs=3)
    batches = DpSgd().batches(4, recipe, seed=1, round=1, client=0)
    assert [batch.tolist() for batch in batches] == [[0, 1, 2, 3]] * 3
    small, full = (
        DpSgd(delta=1e-2).account(recipe, num_examples=n, clients=1, rounds=2) for n in (4, 10)
    )
    assert small is not None
    assert full is not None
    assert small.epsilon == full.epsilon
    budget = DpSgd(epsilon=3, delta=1e-2, rounds=2)
    spent = budget.account(recipe, num_examples=4, clients=1, rounds=2)
    assert spent is not None
    assert 2.9 < spent.epsilon <= 3


@pytest.mark.parametrize("name", ["resnet18", "resnet18-sigmoid"])
def test_batch_normalisation_is_replaced_or_its_statistics_stay(name):
    size = SMALLEST.get(name, 8)
    grouped = DpSgd().model(model_for(name, size=size))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in grouped.modules())
    assert not any(is_buffer(n, v) for n, v in grouped.state_dict().items())

    frozen = DpSgd(batch_norm="frozen")
    model = frozen.model(model_for(name, size=size))
    before = copy.deepcopy(model.state_dict())
    recipe = frozen.recipe(TrainingRecipe(lr=0.1, batch_size=2))
    assert recipe.batch_norm == "eval"
    images, labels = examples(4, size=size)
    train(frozen, model, images, labels, recipe, [torch.tensor([0, 1, 3])])
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]) == is_buffer(key, value), key


def test_a_budget_becomes_noise_for_all_rounds_of_the_run_and_is_then_spent():
    recipe = TrainingRecipe(lr=0.1, batch_size=5, local_epochs=2)
    defence = DpSgd(epsilon=3.0, delta=1e-4).prepare(rounds=10, strategy="fedavg", examples=[8, 8])
    steps, rate = recipe.steps(50), 5 / 50
    expected = noise_for_budget(3.0, delta=1e-4, steps=10 * steps, sample_rate=rate)
    assert defence.noise(recipe, 50) == expected
    spent = [
        defence.account(recipe, num_examples=50, clients=4, rounds=r).epsilon for r in (1, 5, 10)
    ]
    assert spent == sorted(set(spent))
    assert 2.99 <= spent[-1] <= 3.0


def test_an_account_is_told_from_the_clients_own_images():
    recipe = TrainingRecipe(lr=0.1, batch_size=5)
    small, large = (DpSgd().account(recipe, num_examples=n, clients=4, rounds=1) for n in (50, 500))
    assert (small.unit, small.neighbours) == ("example", "add or remove one")
    assert (small.delta, large.delta) == (1e-2, pytest.approx(0.9 / 500))
    assert DpSgd(noise_multiplier=0.0).account(recipe, num_examples=50, clients=4, rounds=1) is None


def test_a_chosen_number_of_rounds_is_kept_if_it_is_enough():
    assert DpSgd(rounds=9).prepare(rounds=4, strategy="fedavg", examples=[8, 8]).rounds == 9
    with pytest.raises(DefenceError, match=r"^defence.rounds = 3: the run has 4; must"):
        DpSgd(rounds=3).prepare(rounds=4, strategy="fedavg", examples=[8, 8])


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("clip", "0", "clip = 0.0: must be a number > 0"),
        ("clip", "inf", "clip = inf: must be a number > 0"),
        ("noise_multiplier", "-1", "noise_multiplier = -1.0: must be a number >= 0"),
        ("epsilon", "-1", "epsilon = -1.0: must be a number > 0, or 0"),
        ("epsilon", "nan", "epsilon = nan: must be"),
        ("delta", "1", "delta = 1.0: must be > 0 and < 1"),
        ("rounds", "-1", "rounds = -1: must be an integer >= 0"),
        ("batch_norm", "none", "batch_norm = none: must be one of group, frozen"),
    ],
)
def test_mistakes_are_named_in_one_line(option, value, message):
    with pytest.raises(DefenceError, match=f"^defence.{message}") as error:
        defences.create("dp-sgd", {option: value})
    assert "\n" not in str(error.value)


def test_the_report_names_a_budget_or_a_noise_not_both():
    assert "noise_multiplier" in DpSgd().describe()
    assert "noise_multiplier" not in DpSgd(epsilon=1.0).describe()


# Whole runs


def run(settings):
    run_in_process(settings)
    return RunFolder.open(Path(settings.out))


def test_epsilon_rises_by_round_up_to_the_budget(quick):
    settings = quick(
        defence__name="dp-sgd", defence__options="epsilon=8", rounds=3, strategy__fraction=0.7,
        data__num_images=40, adversary__enabled=False,
    )  # fmt: skip
    folder = run(settings)
    rounds, accounts = folder.rounds(), folder.accounts()
    assert rounds["epsilon"].is_monotonic_increasing
    assert 0 < rounds["epsilon"].iloc[0] < rounds["epsilon"].iloc[-1] <= 8
    assert accounts.groupby("round").size().tolist() == [2, 2, 2]  # those that took part
    took_part = accounts.groupby("client").cumcount() + 1
    assert took_part.tolist() == accounts["rounds"].tolist()
    assembly = build_federation(settings, 3)
    for row in accounts.itertuples():
        expected = assembly.account(int(row.client[-2:]), row.rounds)
        assert row.epsilon == pytest.approx(expected.epsilon)
        assert (row.delta, row.unit) == (expected.delta, "example")
    so_far = [accounts[accounts["round"] <= r]["epsilon"].max() for r in (1, 2, 3)]
    assert rounds["epsilon"].tolist() == so_far
    assert rounds["auc"].notna().all()
    assert rounds["client_loss"].isna().all()
    missing = folder.info()["missing"]
    assert "epsilon" not in missing
    assert "report no losses" in missing["client_loss"]
    assert "Privacy accounts" in (folder.path / "report.html").read_text()


def test_clipping_without_noise_earns_no_epsilon_and_says_so(quick):
    folder = run(
        quick(defence__name="dp-sgd", defence__options="noise_multiplier=0", rounds=1,
              adversary__enabled=False)
    )  # fmt: skip
    assert folder.rounds()["epsilon"].isna().all()
    assert folder.accounts().empty
    assert "earns no privacy guarantee" in folder.info()["missing"]["epsilon"]
    assert "Privacy accounts" not in (folder.path / "report.html").read_text()


def test_a_budget_that_cannot_be_kept_ends_the_run_before_the_first_round(quick):
    settings = quick(defence__name="dp-sgd", defence__options="epsilon=0.001, delta=1e-6")
    with pytest.raises(PrivacyError, match="epsilon = 0.001: cannot be had"):
        run_in_process(settings)
    assert RunFolder.open(Path(settings.out)).info()["status"] == "failed"


def test_an_empty_draw_is_noted_and_no_row_is_made_of_it(quick, monkeypatch):
    real = DpSgd.batches

    def batches(self, *args, client, **more):
        drawn = real(self, *args, client=client, **more)
        return [b[:0] for b in drawn] if client == 1 else [torch.arange(3)]

    monkeypatch.setattr(DpSgd, "batches", batches)
    attacks = "dlg.iterations=2, ing.iterations=2"
    folder = run(
        quick(
            defence__name="dp-sgd", rounds=1, adversary__attack="dlg,ing",
            adversary__options=attacks, adversary__labels_known=True,
        )
    )  # fmt: skip
    leakage = folder.leakage()
    assert set(leakage["client"]) == {"client-00", "client-02"}
    assert len(leakage) == 2 * 2 * 3  # each of the three images drawn, though two were expected
    assert set(leakage["status"]) == {"ok"}
    info = folder.info()
    assert info["without_images"] == [{"round": 1, "client": "client-01"}]
    assert info["failures"] == []
    assert info["status"] == "completed"
    page = (folder.path / "report.html").read_text()
    assert "No image went into the update of client-01 in round 1" in page
