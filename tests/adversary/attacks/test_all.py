"""One set of expectations for every attack in the registry."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from torch.nn import functional

from adversary import Adversary, Limits, Prior, ThreatModel, TrainingRecipe
from adversary.attacks import ATTACKS, AttackOptionError, create, options_of
from adversary.attacks.base import Attack
from adversary.attacks.gradient_matching import GradientMatching
from adversary.attacks.standard.effort import EFFORTS, Effort
from adversary.optim.loop import minimise
from adversary.optim.optimizers import warm_cosine
from adversary.problem.problem import build_problem


def short(name, iterations=40):
    """Return options with which an attack is soon done; the ensemble has budgets alone."""
    if name == "standard":
        return {"effort": "brief"}
    more = {"refine": str(iterations)} if name == "encgrad" else {}
    return {"iterations": str(iterations), **more}


@pytest.fixture(autouse=True)
def _brief(monkeypatch):
    """Let every member of the ensemble have its turn, and no more than other attacks have here."""
    brief = Effort(operations=4e8, iterations=40, starts=1, stages=20, rehearsals=1)
    monkeypatch.setitem(EFFORTS, "brief", brief)


BY_GRADIENT = sorted(ATTACKS.keys() - {"batch-statistics", "recursive", "encoder"})
"""Attacks that need nothing but a gradient, of any network."""


def psnr(found, truth):
    return float(-10 * (found - truth).square().mean().log10())


def smooth_images(batch, channels=1, seed=0):
    noise = torch.rand(batch, channels, 2, 2, generator=torch.Generator().manual_seed(seed))
    return functional.interpolate(noise, size=(8, 8), mode="bicubic").clamp(0, 1)


def only_trained(seen, model):
    """Return an observation in which frozen parameters, and their statistics, are not sent."""
    frozen = [n.rpartition(".")[0] for n, p in model.named_parameters() if not p.requires_grad]

    def left(arrays):
        return {n: v for n, v in arrays.items() if n.rpartition(".")[0] not in frozen}

    return dataclasses.replace(seen, sent=left(seen.sent), returned=left(seen.returned))


@pytest.mark.parametrize("loss", ["cross-entropy", "bce"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", BY_GRADIENT)
def test_every_attack_runs_on_every_kind_of_update(tiny_net, update, name, batch, channels, loss):
    model = tiny_net(channels=channels)
    images = smooth_images(batch, channels)
    labels = torch.arange(batch)
    targets = labels if loss == "cross-entropy" else functional.one_hot(labels, 3).float()
    seen = update(model, images, targets, TrainingRecipe(lr=0.1, batch_size=batch, loss=loss))
    problem = build_problem(
        seen, ThreatModel(), model, image_shape=(channels, 8, 8), prior=Prior(images)
    )
    attack = create(name, short(name))
    found = attack.run(problem, seed=1)
    assert found.images.shape == images.shape
    assert found.images.dtype == torch.float32
    assert 0 <= found.images.min() <= found.images.max() <= 1
    assert found.labels.shape == targets.shape
    assert found.evaluations > 0
    if type(attack).solve is GradientMatching.solve:  # one phase, one objective
        assert found.score == min(s.score for s in found.history if s.score == s.score)


FREEZE = {
    "batch-norm": ["body.1"],
    "all-but-last": ["body.0", "body.1", "body.3"],
    "middle": ["body.1", "body.3"],
}


@pytest.mark.parametrize("what", FREEZE)
@pytest.mark.parametrize("name", BY_GRADIENT)
def test_every_attack_runs_where_a_part_is_frozen(tiny_net, update, name, what):
    model = tiny_net(norm=True)
    for module in FREEZE[what]:
        model.get_submodule(module).requires_grad_(False)
    images, targets = smooth_images(2), torch.tensor([0, 1])
    recipe = TrainingRecipe(lr=0.1, batch_size=2, batch_norm="train")
    seen = only_trained(update(model, images, targets, recipe), model)
    problem = build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8), prior=Prior(images))
    assert problem.gradient.keys() == seen.sent.keys()
    found = create(name, short(name)).run(problem, seed=1)
    assert found.images.shape == images.shape
    assert found.images.isfinite().all()
    assert sorted(found.labels.tolist()) == [0, 1]


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("dlg", {"iterations": "400"}, 35),
        ("igi", {"iterations": "200"}, 35),
        ("ing", {"iterations": "800", "tv": "1e-5"}, 25),
        ("stg", {"iterations": "300", "restarts": "2"}, 25),
    ],
)
def test_a_single_smooth_image_is_recovered(tiny_net, update, name, options, expected):
    model = tiny_net(seed=3)
    image = smooth_images(1, seed=5)
    seen = update(model, image, torch.tensor([2]), TrainingRecipe(lr=0.1, batch_size=1))
    problem = build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8))
    found = create(name, options).run(problem, seed=2)
    assert found.labels.tolist() == [2]
    assert psnr(found.images, image) > expected


def test_ing_takes_signed_steps_of_adam_that_decay_within_the_box(tiny_net, update):
    """Geiping et al. 2020 in torch's own words: score by score, the same way down."""
    model = tiny_net(seed=3)
    image = smooth_images(1).gt(0.5).float()  # at the walls of the box
    seen = update(model, image, torch.tensor([2]), TrainingRecipe(lr=0.1, batch_size=1))
    problem = build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8))
    attack = create("ing", {"iterations": "40", "tv": "0"}, start="randn")
    found = attack.run(problem, seed=2)
    score = attack.objective(problem.to(torch.float32))
    images = attack.variables(problem, [2])["images"].clamp(0, 1).requires_grad_()
    optimiser = torch.optim.Adam([images], lr=0.1)
    decay = torch.optim.lr_scheduler.MultiStepLR(optimiser, [15, 25, 35], gamma=0.1)
    scores = []
    for _ in range(41):
        optimiser.zero_grad()
        value = score({"images": images}).sum()
        value.backward()
        scores.append(value.item())
        images.grad.sign_()
        optimiser.step()
        decay.step()
        images.data.clamp_(0, 1)
    assert [step.score for step in found.history] == pytest.approx(scores, rel=1e-4)


def test_the_noise_of_see_through_gradients_is_in_learning_rates():
    """Where the gradient is zero nothing else moves the images (Yin et al. 2021, algorithm 1)."""
    method = create("stg", {"iterations": "100", "lr": "0.02", "noise": "0.5"}).method(seed=3)
    factor = warm_cosine(100)
    variables = {"images": torch.zeros(1, 20_000)}
    at = torch.zeros(1), {"images": torch.zeros(1, 20_000)}
    for step in range(3):
        before = variables["images"].clone()
        method.step(variables, at, lambda v: at)
        moved = variables["images"] - before
        assert float(moved.std()) == pytest.approx(0.5 * 0.02 * factor(step), rel=0.03)


@pytest.mark.parametrize("name", BY_GRADIENT)
def test_one_seed_one_result(tiny_net, update, name):
    model = tiny_net()
    seen = update(model, smooth_images(1), torch.tensor([0]), TrainingRecipe(lr=0.1, batch_size=1))
    problem = build_problem(
        seen, ThreatModel(), model, image_shape=(1, 8, 8), prior=Prior(smooth_images(2, seed=9))
    )
    options = short(name) | (
        {"refine": "0"} if name == "encgrad" else {}
    )  # exact images forget the seed
    runs = [create(name, options, start="randn").run(problem, seed=s) for s in (4, 4, 5)]
    assert torch.equal(runs[0].images, runs[1].images)
    assert [s.score for s in runs[0].history] == [s.score for s in runs[1].history]
    assert not torch.equal(runs[0].images, runs[2].images)


@pytest.mark.parametrize("name", ["dlg", "igi", "ing"])
def test_the_best_restart_is_chosen_by_its_own_score(tiny_net, update, name):
    model = tiny_net()
    seen = update(model, smooth_images(1), torch.tensor([0]), TrainingRecipe(lr=0.1, batch_size=1))
    problem = build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8))
    alone = [create(name, short(name)).run(problem, seed=s).score for s in (7, 8, 9)]
    together = create(name, short(name), restarts=3).run(problem, seed=7)
    assert {s.restart for s in together.history} == {0, 1, 2}
    assert together.score == pytest.approx(min(alone), rel=0.2)


@pytest.mark.parametrize("at_once", [1, 2])
def test_pictures_of_the_process_show_each_restart_on_its_way(
    tiny_net, update, monkeypatch, at_once
):
    monkeypatch.setattr(GradientMatching, "at_once", lambda *_: at_once)
    model = tiny_net()
    seen = update(model, smooth_images(1), torch.tensor([0]), TrainingRecipe(lr=0.1, batch_size=1))
    problem = build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8))
    found = create("ing", {"iterations": "9"}, restarts=2, frames=4).run(problem, seed=7)
    steps = [[f for f in found.frames if f.restart == r] for r in (0, 1)]
    assert [[f.iteration for f in one] for one in steps] == [[0, 1, 4, 9]] * 2
    scores = {(s.restart, s.iteration): s.score for s in found.history}
    for one in steps:
        for frame, later in itertools.pairwise(one):
            assert frame.score == scores[frame.restart, frame.iteration]
            assert not torch.equal(frame.images, later.images)
    results = {one[-1].score: one[-1].images for one in steps}
    assert found.score == min(results)
    assert torch.equal(found.images, results[found.score])


@pytest.mark.parametrize("name", BY_GRADIENT)
def test_no_pictures_are_kept_unless_asked_for(tiny_net, update, name):
    model = tiny_net()
    seen = update(model, smooth_images(1), torch.tensor([0]), TrainingRecipe(lr=0.1, batch_size=1))
    problem = build_problem(
        seen, ThreatModel(), model, image_shape=(1, 8, 8), prior=Prior(smooth_images(2))
    )
    assert create(name, short(name)).run(problem, seed=7).frames == []
    filmed = create(name, short(name), frames=1).run(problem, seed=7)
    # Those that take second-order steps alone keep none.
    assert bool(filmed.frames) is issubclass(ATTACKS[name], GradientMatching)
    if filmed.frames:
        assert any(torch.equal(frame.images, filmed.images) for frame in filmed.frames)


def test_restarts_that_do_not_fit_together_run_in_turn(tiny_net, update, monkeypatch):
    model = tiny_net()
    seen = update(model, smooth_images(1), torch.tensor([0]), TrainingRecipe(lr=0.1, batch_size=1))
    problem = build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8))
    together = create("dlg", {"iterations": "10"}, restarts=3).run(problem, seed=7)
    monkeypatch.setattr("adversary.attacks.gradient_matching.available_bytes", lambda device: 1)
    in_turn = create("dlg", {"iterations": "10"}, restarts=3).run(problem, seed=7)
    assert {s.restart for s in in_turn.history} == {0, 1, 2}
    assert in_turn.score == pytest.approx(together.score, rel=1e-3)


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("40 GiB"), RuntimeError("DefaultCPUAllocator: not enough memory")],
    ids=["GPU", "CPU"],
)
def test_restarts_that_exceed_memory_are_halved_until_they_fit(
    tiny_net, update, monkeypatch, error
):
    model = tiny_net()
    seen = update(model, smooth_images(1), torch.tensor([0]), TrainingRecipe(lr=0.1, batch_size=1))
    problem = build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8))
    attack = create("ing", {"iterations": "10"}, restarts=7)
    together = attack.run(problem, seed=7)
    sizes = []

    def short_of_memory(objective, variables, *rest, **settings):
        sizes.append(len(variables["images"]))
        if sizes[-1] > 2:
            raise error
        return minimise(objective, variables, *rest, **settings)

    monkeypatch.setattr("adversary.attacks.gradient_matching.minimise", short_of_memory)
    halved = attack.run(problem, seed=7)
    assert sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert halved.notes == (
        "memory was short: 3 restarts at a time",
        "memory was short: 1 restarts at a time",
    )
    assert {s.restart for s in halved.history} == set(range(7))
    assert halved.score == pytest.approx(together.score, rel=1e-2)


def test_a_single_restart_that_exceeds_memory_is_an_error(tiny_net, update, monkeypatch):
    model = tiny_net()
    seen = update(model, smooth_images(1), torch.tensor([0]), TrainingRecipe(lr=0.1, batch_size=1))
    problem = build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8))

    def short_of_memory(*args, **settings):
        raise torch.OutOfMemoryError("40 GiB")

    monkeypatch.setattr("adversary.attacks.gradient_matching.minimise", short_of_memory)
    with pytest.raises(torch.OutOfMemoryError):
        create("ing", {"iterations": "10"}, restarts=3).run(problem, seed=7)


@pytest.mark.parametrize("start", ["randn", "rand", "zeros", "grey", "mean", "image"])
def test_every_start_is_where_the_attack_starts(tiny_net, update, start):
    model = tiny_net()
    given = smooth_images(1, seed=3)[0]
    public = smooth_images(3, seed=4)
    seen = update(model, smooth_images(1), torch.tensor([0]), TrainingRecipe(lr=0.1, batch_size=1))
    problem = build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8), prior=Prior(public))
    attack = create("ing", {"iterations": "1", "lr": "1e-9"}, start=start, start_image=given)
    image = attack.run(problem).images[0]
    expected = {"zeros": torch.zeros(1, 8, 8), "grey": torch.full((1, 8, 8), 0.5)}
    expected |= {"mean": public.mean(0), "image": given}
    if start in expected:
        torch.testing.assert_close(image, expected[start], atol=1e-6, rtol=0)
    else:
        assert image.std() > 0.1


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_restarts_take_several_starts_in_turn(tiny_net, update, monkeypatch, at_once):
    """However many fit in memory together; and each says what it began from."""
    monkeypatch.setattr(GradientMatching, "at_once", lambda *_: at_once)
    model, public = tiny_net(), smooth_images(3, seed=4)
    seen = update(model, smooth_images(1), torch.tensor([0]), TrainingRecipe(lr=0.1, batch_size=1))
    problem = build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8), prior=Prior(public))
    options = {"iterations": "1", "lr": "1e-9"}
    attack = create("ing", options, start="zeros+mean", restarts=3, frames=1)
    found = attack.run(problem)
    assert [found.options[trial]["start"] for trial in range(3)] == ["zeros", "mean", "zeros"]
    assert found.options[0]["iterations"] == 1
    for trial, expected in enumerate((torch.zeros(1, 8, 8), public.mean(0), torch.zeros(1, 8, 8))):
        result = found.results()[trial].images[0]
        torch.testing.assert_close(result, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"start": "zeros+nowhere"}, r"ing\.start = 'zeros\+nowhere': must be one or more, joined"),
        ({"start": "zeros+mean"}, r"ing\.restarts = 1: each of the 2 images .* must be >= 2"),
        ({"start": "zeros+image", "restarts": 2}, "adversary.start-image is empty"),
    ],
)
def test_starts_that_cannot_be_taken_are_told(given, message):
    with pytest.raises(AttackOptionError, match=message):
        create("ing", **given)


def test_a_time_limit_returns_the_best_so_far(tiny_net, update):
    model = tiny_net()
    seen = update(model, smooth_images(1), torch.tensor([0]), TrainingRecipe(lr=0.1, batch_size=1))
    problem = build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8))
    found = create("ing", {"iterations": "100000000"}).run(problem, limits=Limits(seconds=0.3))
    assert found.stopped == "seconds"
    assert found.seconds < 5


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("igm", {}, "adversary.attack = 'igm': must be one of .*did you mean"),
        ("ing", {"tvv": "1"}, "ing.tvv: unknown option; ing takes .*did you mean tv"),
        ("ing", {"tv": "much"}, "ing.tv = 'much': must be a number"),
        ("ing", {"tv": "-1"}, "ing.tv = -1.0: must be >= 0"),
        ("dlg", {"iterations": "0"}, "dlg.iterations = 0: must be > 0"),
        ("dlg", {"iterations": "1.5"}, "dlg.iterations = '1.5': must be an integer"),
        (
            "dlg",
            {"start": "noise"},
            r"dlg.start = 'noise': must be one or more, joined by \+, of randn",
        ),
    ],
)
def test_a_wrong_option_is_one_clear_line(name, options, message):
    with pytest.raises(AttackOptionError, match=message) as caught:
        create(name, options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_says_what_it_is(name):
    cls = ATTACKS[name]
    assert cls.name == name
    assert cls.title
    assert cls.reference
    assert cls.__doc__
    assert options_of(cls).keys() & {"iterations", "effort"}


class Broken(Attack):
    name = "broken"
    title = reference = "-"

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def solve(self, run):
        torch.rand(1)  # an attack that does not keep to its own generator
        raise self.error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("two\nlines"), "RuntimeError: two lines"),
        (MemoryError(), "out of memory: MemoryError"),
        (torch.OutOfMemoryError("40 GiB"), "out of memory: 40 GiB"),
        (RuntimeError("DefaultCPUAllocator: not enough memory"), "out of memory: Default"),
    ],
)
def test_the_adversary_survives_any_attack(tiny_net, update, error, message):
    model = tiny_net()
    seen = update(model, smooth_images(1), torch.tensor([0]), TrainingRecipe(lr=0.1, batch_size=1))
    attacks = [Broken(error), create("dlg", {"iterations": "5"})]
    adversary = Adversary(model, image_shape=(1, 8, 8), attacks=attacks)
    broken, dlg = adversary.run_attacks(seen)
    assert broken.reconstruction is None
    assert broken.failure is not None
    assert broken.failure.startswith(message)
    assert dlg.failure is None
    assert dlg.reconstruction is not None


def test_an_outcome_says_what_the_attacker_was_told(tiny_net, update):
    model = tiny_net()
    seen = update(model, smooth_images(1), torch.tensor([0]), TrainingRecipe(lr=0.1, batch_size=1))
    adversary = Adversary(
        model, image_shape=(1, 8, 8), attacks=[create("dlg", {"iterations": "2"})]
    )
    [alone] = adversary.run_attacks(seen)
    [told] = adversary.run_attacks(seen, ThreatModel(labels=torch.tensor([0])))
    assert (alone.oracles, told.oracles) == ((), ("labels known",))


def test_the_adversary_leaves_no_trace(tiny_net, update):
    model = tiny_net(norm=True)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    seen = update(model, smooth_images(1), torch.tensor([0]), TrainingRecipe(lr=0.1, batch_size=1))
    state = torch.get_rng_state()
    attacks = [create(name, short(name, 3)) for name in ATTACKS]
    attacks.append(Broken(ValueError("x")))
    prior = Prior(smooth_images(2))
    list(Adversary(model, image_shape=(1, 8, 8), attacks=attacks, prior=prior).run_attacks(seen))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cuda:x"])
def test_a_device_that_is_not_there_is_refused(tiny_net, device):
    with pytest.raises(ValueError, match=f"device = '{device}'"):
        Adversary(tiny_net(), image_shape=(1, 8, 8), attacks=[create("dlg")], device=device)


@pytest.mark.parametrize("name", ATTACKS)
def test_what_all_attacks_are_given_in_common_suits_each(name):
    common = {"start_image": torch.zeros(1, 8, 8), "restarts": 2, "start": "rand"}
    attack = create(name, **common)
    assert all(getattr(attack, key, value) is value for key, value in common.items())
