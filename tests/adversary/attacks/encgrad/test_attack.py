from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from adversary import Prior, ThreatModel, TrainingRecipe
from adversary.attacks import AttackOptionError, create
from adversary.attacks.encgrad.attack import ENCODINGS, deviation
from adversary.problem.problem import build_problem
from adversary.scoring.metrics import psnr

RECIPE = TrainingRecipe(lr=0.1, batch_size=3)


@pytest.fixture
def posed(tiny_net, update):
    """Return a function from a seed to three smooth images and the problem of finding them."""

    def make(seed=0, **options):
        noise = torch.rand(3, 1, 3, 3, generator=torch.Generator().manual_seed(seed))
        images = functional.interpolate(noise, size=(8, 8), mode="bicubic").clamp(0, 1)
        model = tiny_net(seed=seed, outputs=5, **options).double()
        labels = torch.arange(3)
        seen = update(model, images.double(), labels, RECIPE)
        threat = ThreatModel(labels=labels)
        return images, build_problem(
            seen, threat, model.float(), image_shape=(1, 8, 8), prior=Prior(images)
        )

    return make


@pytest.mark.parametrize("seed", [0, 1])
def test_the_closed_form_beats_adam_and_phase_3_improves_on_it(posed, seed):
    images, problem = posed(seed)
    found = {
        name: psnr(create("encgrad", options).run(problem).images, images).mean()
        for name, options in {
            "adam": {"inversion": "adam", "refine": "0"},
            "map": {"refine": "0"},
            "all": {"refine": "100"},
        }.items()
    }
    assert found["map"] > found["adam"] + 3
    assert found["all"] >= found["map"]


def test_batch_statistics_leave_phase_2_to_adam(posed):
    _, problem = posed(norm=True)
    found = create("encgrad", {"iterations": "20", "refine": "0"}).run(problem)
    assert "phase 2 by Adam" in found.notes
    assert len(found.history) > 0


def test_the_deviation_is_that_of_the_encodings(posed):
    images, problem = posed()
    targets = problem.targets(problem.threat.labels)
    found = ENCODINGS["consistent"](problem, targets, 0)
    sigma = deviation(problem, found, targets)
    error = (found.values - problem.to(torch.float64).encode(images.double())).square().mean(1)
    assert (error.sqrt() < 10 * sigma).all()
    worse = deviation(problem, ENCODINGS["oha"](problem, targets, 0), targets)
    assert (worse > 10 * sigma).all()


def test_an_unknown_inversion_is_one_clear_line():
    with pytest.raises(AttackOptionError, match=r"encgrad.inversion = 'gauss': must be one of map"):
        create("encgrad", {"inversion": "gauss"})
