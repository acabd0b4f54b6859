from __future__ import annotations

import pytest
import torch

from adversary import Prior, ThreatModel, TrainingRecipe
from adversary.attacks.most_probable import misfit_cost
from adversary.attacks.standard.referee import Referee
from adversary.observation.channel import Channel
from adversary.problem.problem import build_problem, image_prior


@pytest.fixture
def referee(tiny_net, update):
    draw = torch.Generator().manual_seed(0)
    public = torch.rand(12, 1, 8, 8, generator=draw)
    model, image = tiny_net(seed=1), torch.rand(1, 1, 8, 8, generator=draw)
    seen = update(model, image, torch.tensor([1]), TrainingRecipe(lr=0.1, batch_size=1))
    threat = ThreatModel(channel=Channel(noise=dict.fromkeys(seen.returned, 1e-3)))
    problem = build_problem(
        seen, threat, model, image_shape=(1, 8, 8), prior=Prior(public), dtype=torch.float64
    )
    return Referee(problem, image_prior(problem), 1)


@pytest.mark.parametrize("seed", range(3))
def test_an_estimate_costs_its_misfit_and_its_distance_from_the_prior(referee, seed):
    """By the precision written out, in place of whitened images."""
    image = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(seed)).double()
    found = referee.estimate("some", image, torch.tensor([1]))
    count = sum(value.numel() for value in referee.problem.gradient.values())
    misfit = misfit_cost(torch.tensor(found.chi_square * count).double(), count, 64)
    away = (image - referee.prior.mean).flatten()
    distance = float(away @ referee.prior.precision() @ away)
    assert found.cost == pytest.approx(float(misfit) + distance, rel=1e-6)
    assert distance > 1


def test_images_that_are_no_numbers_have_no_score(referee):
    with pytest.raises(ValueError, match="NaN"):
        referee.estimate("some", torch.full((1, 1, 8, 8), torch.nan), torch.tensor([1]))
    unscored = referee.unscored("some", torch.zeros(1, 1, 8, 8), torch.tensor([1]))
    assert unscored.cost == float("inf")
