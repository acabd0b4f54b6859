from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn import functional

from adversary import Limits, ThreatModel, TrainingRecipe
from adversary.attacks import GaussNewton
from adversary.attacks.base import Run
from adversary.attacks.gauss_newton.descent import End
from adversary.attacks.gauss_newton.region_swaps import with_region_swapped
from adversary.attacks.options import AttackOptionError
from adversary.observation.channel import Channel
from adversary.optim.levenberg_marquardt import Iterate
from adversary.optim.search import Search
from adversary.priors.public import Prior
from adversary.problem.problem import build_problem
from adversary.problem.residuals import residuals


def smooth_images(batch, seed=0):
    noise = torch.rand(batch, 1, 2, 2, generator=torch.Generator().manual_seed(seed))
    return functional.interpolate(noise, size=(8, 8), mode="bicubic").clamp(0, 1)


def problem_of(tiny_net, update, images, labels, *, lr=0.1, granted=None):
    model = tiny_net(seed=3)
    seen = update(model, images, labels, TrainingRecipe(lr=lr, batch_size=len(images)))
    return build_problem(seen, ThreatModel(labels=granted), model, image_shape=(1, 8, 8))


def psnr(found, truth):
    distance = torch.cdist(found.flatten(1), truth.flatten(1)).square() / truth[0].numel()
    return float(-10 * distance.min(0).values.max().log10())


@pytest.mark.parametrize("seed", range(3))
def test_a_single_image_comes_back_to_the_rounding_of_the_update(tiny_net, update, seed):
    image = smooth_images(1, seed)
    found = GaussNewton().run(problem_of(tiny_net, update, image, torch.tensor([1])), seed=seed)
    assert psnr(found.images, image) > 60
    assert found.score < GaussNewton.FLOOR
    assert "the noise floor is reached" in found.notes[0]
    assert found.stopped == "converged"


@pytest.mark.parametrize(
    ("moved", "left", "starts"), [(0.0, 9.0, 2), (0.5, 9.0, 1), (0.0, 1.0, 1)],
    ids=["stuck", "moved", "at the floor"],
)  # fmt: skip
def test_where_no_step_leads_away_from_grey_the_mean_is_the_next_start(
    tiny_net, update, monkeypatch, moved, left, starts
):
    problem = problem_of(tiny_net, update, smooth_images(1), torch.tensor([1]))
    problem = dataclasses.replace(problem, prior=Prior(smooth_images(40)))
    begun = []

    def descents(self, run, start, *_):
        begun.append(start)
        place = Iterate(start + moved, torch.full((4,), left**0.5).double())
        return [End(place, torch.tensor([1]), left)]

    monkeypatch.setattr(GaussNewton, "descents", descents)
    GaussNewton().run(problem)
    expected = [torch.full((1, 1, 8, 8), 0.5).double(), problem.prior.gaussian.mean.double()]
    assert len(begun) == starts
    for found, wanted in zip(begun, expected, strict=False):
        torch.testing.assert_close(found, wanted.view(1, 1, 8, 8))


@pytest.mark.parametrize("costs", [(5.0, 3.0, 4.0), (3.0, 4.0, 5.0), (5.0, 4.0, 3.0)])
@pytest.mark.parametrize("by", ["labels", "starts"])
def test_the_most_probable_end_of_all_labels_and_starts_is_given(
    tiny_net, update, monkeypatch, costs, by
):
    problem = problem_of(tiny_net, update, smooth_images(1), torch.tensor([1]))
    ends = [
        End(
            Iterate(torch.full((1, 1, 8, 8), 0.1 * cost).double(), torch.full((4,), 9.0).double()),
            torch.tensor([int(cost) % 3]),
            cost,
        )
        for cost in costs
    ]
    turns = [ends] if by == "labels" else [[end] for end in ends]
    left = iter(turns)
    monkeypatch.setattr(GaussNewton, "descents", lambda *_, **__: next(left))
    found = GaussNewton(restarts=len(turns), start="zeros").run(problem)
    assert found.labels.tolist() == [0]  # of the cost of 3
    torch.testing.assert_close(found.images, torch.full((1, 1, 8, 8), 0.3))


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_every_label_is_followed_to_its_end_where_noise_may_hide_the_right_one(
    tiny_net, update, monkeypatch, noise
):
    problem = problem_of(tiny_net, update, smooth_images(1), torch.tensor([1]))
    channel = Channel(noise=dict.fromkeys(problem.gradient, noise) if noise else {})
    problem = dataclasses.replace(problem, threat=ThreatModel(channel=channel))
    candidates = [torch.tensor([label]) for label in (1, 0, 2)]
    monkeypatch.setattr(
        "adversary.attacks.gauss_newton.attack.likely_labels", lambda *_: list(candidates)
    )
    run = Run(problem.to(torch.float64), Search("gauss-newton", 1))
    found = GaussNewton().descents(run, torch.full((1, 1, 8, 8), 0.5).double())
    assert len(found) == (3 if noise else 1)


def test_the_label_that_explains_the_update_best_after_a_few_steps_is_followed_first(
    tiny_net, update, monkeypatch
):
    problem = problem_of(tiny_net, update, smooth_images(1), torch.tensor([1]))
    candidates = [torch.tensor([label]) for label in (0, 2, 1)]
    monkeypatch.setattr(
        "adversary.attacks.gauss_newton.attack.likely_labels", lambda *_: list(candidates)
    )
    run = Run(problem.to(torch.float64), Search("gauss-newton", 1))
    found = GaussNewton().descents(run, torch.full((1, 1, 8, 8), 0.5).double())
    assert [end.labels.tolist() for end in found] == [[1]]


@pytest.mark.parametrize("prior", ["smooth", "none"])
def test_two_images_of_one_label_do_not_stay_equal(tiny_net, update, prior):
    problem = problem_of(tiny_net, update, smooth_images(2), torch.tensor([1, 1]))
    found = GaussNewton(iterations=1, prior=prior).run(problem)
    assert float((found.images[0] - found.images[1]).abs().max()) > 1e-3


@pytest.mark.filterwarnings("error:Converting a tensor")
def test_parameters_that_still_require_a_gradient_are_taken_as_numbers(tiny_net, update):
    model = tiny_net(seed=3)
    image, label = smooth_images(1), torch.tensor([1])
    seen = update(model, image, label, TrainingRecipe(lr=0.1, batch_size=1))
    for value in seen.returned.values():
        value.requires_grad_(value.is_floating_point())
    problem = build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8))
    found = GaussNewton(iterations=2).run(problem)
    assert not found.images.requires_grad


def test_a_batch_of_distinct_labels_comes_back(tiny_net, update):
    images = smooth_images(2, seed=4)
    found = GaussNewton().run(problem_of(tiny_net, update, images, torch.tensor([0, 2])), seed=1)
    assert psnr(found.images, images) > 45
    assert found.labels.tolist() == [0, 2]


def test_the_attacker_sees_that_it_failed(tiny_net, update):
    """With a wrong label no image explains the update, and the chi-square says so."""
    image = smooth_images(1)
    wrong = problem_of(tiny_net, update, image, torch.tensor([1]), granted=torch.tensor([0]))
    found = GaussNewton(iterations=15).run(wrong)
    assert found.score > 100
    assert "above the noise floor" in found.notes[0]


def test_the_truth_has_a_chi_square_of_about_one(tiny_net, update):
    """The noise model is honest: the true image is at the floor, neither far above nor below."""
    image = smooth_images(1)
    problem = problem_of(tiny_net, update, image, torch.tensor([1])).to(torch.float64)
    equations = residuals(problem, problem.targets(torch.tensor([1])), 1e9, 0)
    residual = equations(image.double())
    assert 0.05 < float(residual.square().mean()) < GaussNewton.FLOOR
    parts = dict(zip(equations.picks, residual.split(equations.counts.tolist()), strict=True))
    # The rounding of the weights that came back is all the noise of the first layer.
    assert 0.5 < float(parts["body.0.weight"].square().mean()) < 1.5


def test_a_sample_is_spread_over_all_layers_and_repeats(tiny_net, update):
    problem = problem_of(tiny_net, update, smooth_images(1), torch.tensor([1])).to(torch.float64)
    x = torch.full(problem.shape, 0.5, dtype=torch.float64)
    targets = problem.targets(torch.tensor([1]))
    total = sum(g.numel() for g in problem.gradient.values())
    full = residuals(problem, targets, 1e9, 0)(x)
    part = residuals(problem, targets, 2.0, 0)(x)
    assert len(full) == total
    assert len(problem.gradient) <= len(part) <= 2 * x.numel() + len(problem.gradient)
    assert torch.equal(part, residuals(problem, targets, 2.0, 0)(x))
    assert not torch.equal(part, residuals(problem, targets, 2.0, 1)(x))


def test_a_limit_of_evaluations_is_kept(tiny_net, update):
    problem = problem_of(tiny_net, update, smooth_images(1), torch.tensor([1]))
    found = GaussNewton().run(problem, limits=Limits(evaluations=1))
    assert found.stopped == "evaluations"


def test_a_problem_too_large_for_memory_is_solved_by_products_alone(tiny_net, update, monkeypatch):
    image = smooth_images(1)
    monkeypatch.setattr("adversary.attacks.gauss_newton.descent.MEMORY_BYTES", 1000)
    monkeypatch.setattr("adversary.optim.quadratic_models.CG_ITERATIONS", 20)
    problem = problem_of(tiny_net, update, image, torch.tensor([1]))
    found = GaussNewton(iterations=2).run(problem)
    assert found.score < 1e-3 * found.history[0].score


def test_several_local_steps_with_labels_in_unknown_order(tiny_net, update):
    images = smooth_images(2, seed=4)
    model = tiny_net(seed=3)
    seen = update(model, images, torch.tensor([2, 0]), TrainingRecipe(lr=0.3, batch_size=1))
    found = GaussNewton().run(build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8)))
    assert found.labels.tolist() == [2, 0]
    assert found.score < GaussNewton.FLOOR
    assert psnr(found.images, images) > 40
    assert "2 local steps, unrolled reading" in found.notes


def test_under_noise_the_prior_helps_and_every_equation_is_used(tiny_net, update):
    image = smooth_images(1)
    model = tiny_net(seed=3)
    seen = update(model, image, torch.tensor([1]), TrainingRecipe(lr=0.1, batch_size=1))
    draw = torch.Generator().manual_seed(0)
    noise = {}
    for name, value in seen.returned.items():
        noise[name] = 0.03 * float((value - seen.sent[name]).square().mean().sqrt())
        value += noise[name] * torch.randn(value.shape, generator=draw)
    threat = ThreatModel(channel=Channel(noise=noise))
    problem = build_problem(seen, threat, model, image_shape=(1, 8, 8))
    probable = GaussNewton(prior="smooth").run(problem)
    likely = GaussNewton(prior="none").run(problem)
    assert 0.5 < probable.score < GaussNewton.FLOOR
    assert psnr(probable.images, image) > psnr(likely.images, image) + 3


def test_unknown_choices_are_told_in_one_line():
    with pytest.raises(AttackOptionError, match=r"gauss-newton.prior = 'flat': must be one of"):
        GaussNewton(prior="flat")
    with pytest.raises(AttackOptionError, match=r"start = 'nowhere': .* grey, mean, encodings"):
        GaussNewton(start="nowhere")


@pytest.mark.parametrize(("start", "seeds"), [("grey", [3, 4]), ("zeros", [])])
@pytest.mark.parametrize("batch_size", [3, 1], ids=["one step", "three steps"])
def test_each_restart_looks_for_starts_of_its_own_unless_one_is_chosen(
    tiny_net, update, monkeypatch, start, seeds, batch_size
):
    asked = []

    def noted(equations, prior, search, seed):
        asked.append(seed)
        return prior.mean.repeat(3, 1, 1, 1)

    module = "adversary.attacks.gauss_newton.descent"
    monkeypatch.setattr(f"{module}.multistart", noted)
    monkeypatch.setattr(f"{module}.resolve_swaps", lambda descent, place: place)
    monkeypatch.setattr(GaussNewton, "FLOOR", 0.0)
    labels = torch.tensor([1, 0, 1])
    model = tiny_net(seed=3)
    recipe = TrainingRecipe(lr=0.3, batch_size=batch_size)
    seen = update(model, smooth_images(3), labels, recipe)
    problem = build_problem(seen, ThreatModel(labels=labels), model, image_shape=(1, 8, 8))
    found = GaussNewton(start=start, restarts=2, iterations=1).run(problem, seed=3)
    assert asked == seeds
    assert any("one label" in note for note in found.notes)


def test_regions_are_exchanged_under_all_labels_that_stay_above_the_floor(
    tiny_net, update, monkeypatch
):
    labels = torch.tensor([1, 0, 1])
    candidates = [torch.tensor([1, 0, 0]), labels, torch.tensor([0, 1, 2])]
    tried = []

    def noted(descent, place):
        tried.append(descent.equations.targets.argmax(1).tolist())
        return place

    module = "adversary.attacks.gauss_newton.descent"
    monkeypatch.setattr(
        "adversary.attacks.gauss_newton.attack.likely_labels", lambda *_: candidates
    )
    monkeypatch.setattr(f"{module}.multistart", lambda *_: smooth_images(3).double() + 0.3)
    monkeypatch.setattr(f"{module}.resolve_swaps", noted)
    monkeypatch.setattr(GaussNewton, "FLOOR", 0.0)
    monkeypatch.setattr(
        GaussNewton, "unmixed", lambda *_: None
    )  # it would choose labels of its own
    model = tiny_net(seed=3)
    seen = update(model, smooth_images(3), labels, TrainingRecipe(lr=0.3, batch_size=3))
    problem = build_problem(seen, ThreatModel(), model, image_shape=(1, 8, 8))
    GaussNewton(iterations=6).run(problem)
    assert sorted(tried) == [[1, 0, 0], [1, 0, 1]]


@pytest.mark.parametrize("undone", [True, False])
def test_a_region_that_two_images_have_exchanged_is_exchanged_back(
    tiny_net, update, monkeypatch, undone
):
    images, labels = smooth_images(3), torch.tensor([1, 0, 1])
    left = (torch.arange(8) < 4).expand(8, 8)
    wrong = with_region_swapped(images.double(), 0, 2, left)
    monkeypatch.setattr("adversary.attacks.gauss_newton.descent.multistart", lambda *given: wrong)
    if not undone:
        monkeypatch.setattr(
            "adversary.attacks.gauss_newton.descent.resolve_swaps",
            lambda descent, place: place,
        )
    model = tiny_net(seed=3)
    seen = update(model, images, labels, TrainingRecipe(lr=0.3, batch_size=3))
    problem = build_problem(seen, ThreatModel(labels=labels), model, image_shape=(1, 8, 8))
    found = GaussNewton(prior="smooth").run(problem)
    assert (psnr(found.images, images) > 60) is undone
    assert (found.score < GaussNewton.FLOOR) is undone
