from __future__ import annotations

import pytest
import torch

from adversary import ThreatModel, TrainingRecipe
from adversary.attacks.standard.effort import EFFORTS
from adversary.attacks.standard.members import GRADIENTS_PER_MATCH, MEMBERS, Work
from adversary.attacks.standard.referee import Referee
from adversary.observation.channel import Channel
from adversary.optim.search import Search
from adversary.problem.problem import build_problem, image_prior


@pytest.fixture
def work(tiny_net, update):
    def make(noise, operations):
        model = tiny_net(seed=1)
        seen = update(
            model, torch.rand(1, 1, 8, 8), torch.tensor([1]), TrainingRecipe(lr=0.1, batch_size=1)
        )
        channel = Channel(noise=dict.fromkeys(seen.returned, noise) if noise else {})
        problem = build_problem(
            seen,
            ThreatModel(channel=channel),
            model,
            image_shape=(1, 8, 8),
            dtype=torch.float64,
        )
        prior = image_prior(problem)
        return Work(
            problem=problem,
            prior=prior,
            referee=Referee(problem, prior, 1),
            labels=[torch.tensor([0]), torch.tensor([1])],
            effort=EFFORTS["quick"],
            search=Search("standard", 1),
            seed=1,
            operations=operations,
        )

    return make


@pytest.mark.parametrize(
    ("noise", "ended", "complete"),
    [(1.0, [0, 1], True), (1.0, [0, 0], False), (1.0, [1], False), (0.0, [], True)],
)
def test_labels_that_noise_blurs_are_all_to_be_followed_to_their_end(work, noise, ended, complete):
    """The same label from two starts is one label."""
    begun = work(noise, 1e6)
    begun.ended = [torch.tensor([label]) for label in ended]
    assert begun.complete is complete


@pytest.mark.parametrize(("iterations", "begun"), [(4, False), (6, True), (1e4, True)])
def test_matching_gradients_is_not_begun_where_it_would_end_where_it_starts(
    work, iterations, begun
):
    operations = EFFORTS["quick"].operations / (GRADIENTS_PER_MATCH * iterations)
    offered = {member.name: member.suits(work(0.0, operations)) for member in MEMBERS}
    assert offered["map"] is begun
    assert offered["ing"] is begun
