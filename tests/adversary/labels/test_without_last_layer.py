from __future__ import annotations

import itertools
import math

import pytest
import torch

from adversary import ObservationError, ThreatModel, TrainingRecipe
from adversary.labels.recovery import recover
from adversary.labels.without_last_layer import MAX_SEQUENCES
from adversary.observation.channel import Channel
from adversary.priors.public import Prior
from adversary.problem.problem import build_problem


def without_head(tiny_net, update, labels, *, loss="cross-entropy", outputs=3):
    """What the server knows of a client that keeps its last layer, here of the first round."""
    model = tiny_net(seed=1, outputs=outputs)
    draw = torch.Generator().manual_seed(5)
    images = 0.5 + 0.1 * torch.rand(len(labels), 1, 8, 8, generator=draw)
    public = Prior(0.5 + 0.1 * torch.rand(4, 1, 8, 8, generator=draw))
    recipe = TrainingRecipe(lr=0.3, batch_size=len(labels), loss=loss)
    seen = update(model, images, torch.as_tensor(labels), recipe)
    hidden = {n: torch.zeros(v.shape, dtype=torch.bool) for n, v in model.state_dict().items()}
    channel = Channel(observed={n: hidden[n] for n in ("head.weight", "head.bias")})
    threat = ThreatModel(channel=channel)
    return build_problem(seen, threat, model, image_shape=(1, 8, 8), prior=public)


@pytest.mark.parametrize(
    "labels",
    [[0], [2], *map(list, itertools.combinations_with_replacement(range(3), 2)), [0, 2, 2]],
)
def test_the_body_tells_the_labels_of_a_batch(tiny_net, update, labels):
    assert recover(without_head(tiny_net, update, labels)).tolist() == labels


@pytest.mark.parametrize("labels", [[[1.0, 0.0, 1.0]], [[0.0, 0.0, 1.0]]])
def test_the_body_tells_several_findings_of_an_image(tiny_net, update, labels):
    assert recover(without_head(tiny_net, update, labels, loss="bce")).tolist() == labels


def test_too_many_labels_are_told(tiny_net, update):
    problem = without_head(tiny_net, update, list(range(8)), outputs=8)
    assert math.comb(8 + 8 - 1, 8) > MAX_SEQUENCES
    with pytest.raises(ObservationError, match="client-00 in round 1: no gradient of the last"):
        recover(problem)
