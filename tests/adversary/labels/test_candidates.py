from __future__ import annotations

import dataclasses

import pytest
import torch

from adversary import ThreatModel, TrainingRecipe
from adversary.labels.candidates import MAX_CANDIDATES, likely_labels, told_by_bias
from adversary.observation.channel import Channel
from adversary.problem.problem import build_problem


def posed(tiny_net, update, labels, *, batch_size, granted=None):
    model = tiny_net(seed=1)
    draw = torch.Generator().manual_seed(5)
    images = 0.5 + 0.1 * torch.rand(len(labels), 1, 8, 8, generator=draw)
    recipe = TrainingRecipe(lr=0.3, batch_size=batch_size)
    seen = update(model, images, torch.tensor(labels), recipe)
    problem = build_problem(seen, ThreatModel(labels=granted), model, image_shape=(1, 8, 8))
    return problem.to(torch.float64), torch.full(problem.shape, 0.55, dtype=torch.float64)


@pytest.mark.parametrize("labels", [[0, 0, 1], [2, 2, 2], [0, 1, 2]])
def test_counts_within_a_batch_come_first(tiny_net, update, labels):
    found = likely_labels(*posed(tiny_net, update, labels, batch_size=3))
    assert sorted(found[0].tolist()) == labels


@pytest.mark.parametrize("labels", [[0, 1], [1, 0], [2, 1, 1], [1, 2, 1]])
def test_the_order_over_steps_is_among_the_candidates(tiny_net, update, labels):
    found = likely_labels(*posed(tiny_net, update, labels, batch_size=1))
    assert labels in [given.tolist() for given in found]
    assert len(found) <= MAX_CANDIDATES


def test_granted_labels_are_not_doubted(tiny_net, update):
    granted = torch.tensor([2, 2])
    found = likely_labels(*posed(tiny_net, update, [0, 1], batch_size=1, granted=granted))
    assert [given.tolist() for given in found] == [[2, 2]]


@pytest.mark.parametrize("label", [0, 1, 2])
def test_a_single_label_is_alone_where_the_bias_tells_it_and_not_where_noise_hides_it(
    tiny_net, update, label
):
    problem, likely = posed(tiny_net, update, [label], batch_size=1)
    assert told_by_bias(problem)
    assert [given.tolist() for given in likely_labels(problem, likely)] == [[label]]
    bias = problem.gradient["head.bias"]
    apart = float(bias.sort().values[1] - bias.min()) / 2**0.5
    for deviations, told in ((10.0, True), (3.0, False)):
        noise = {"head.bias": 0.3 * apart / deviations}  # of the weights: 0.3 is the rate
        noisy = dataclasses.replace(problem, threat=ThreatModel(channel=Channel(noise=noise)))
        assert told_by_bias(noisy) is told
    hidden = dataclasses.replace(
        problem, threat=ThreatModel(channel=Channel(noise=dict.fromkeys(problem.gradient, 1000.0)))
    )
    found = [given.tolist() for given in likely_labels(hidden, likely)]
    assert found[0] == [label]  # the likeliest first
    close = dataclasses.replace(hidden, gradient={n: g + 9 for n, g in problem.gradient.items()})
    assert sorted(g.tolist() for g in likely_labels(close, likely)) == [[0], [1], [2]]


def test_labels_far_from_the_update_are_left_out(tiny_net, update):
    problem, likely = posed(tiny_net, update, [0, 0, 1], batch_size=3)
    found = likely_labels(problem, likely)
    assert len(found) == 1
