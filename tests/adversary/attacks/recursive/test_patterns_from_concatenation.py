from __future__ import annotations

import pytest
import torch
from torch import nn

from adversary.attacks.recursive.layer_graph import LayerGraph
from adversary.attacks.recursive.patterns_from_concatenation import ConcatenatedReLU, shared_pattern


class Dense(nn.Module):
    """Two layers, each given all before it through a normalisation of its own."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, 1, 1)
        self.first = nn.Conv2d(8, 6, 3, 1, 1)
        self.norm1, self.second = nn.BatchNorm2d(14), nn.Conv2d(14, 6, 3, 1, 1)
        self.norm2, self.head = nn.BatchNorm2d(20), nn.Linear(20, 2)

    def forward(self, images):
        a = self.stem(images)
        b = self.first(a.relu())
        c = self.second(self.norm1(torch.cat([a, b], 1)).relu())
        return self.head(self.norm2(torch.cat([a, b, c], 1)).relu().sum((2, 3)))


def made(seed, spread):
    """Return the graph, the open ReLU, the one known, and the values of both."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Dense().double().eval()
        for norm in (model.norm1, model.norm2):
            nn.init.normal_(norm.bias, std=spread)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
        images = torch.randn(1, 1, 6, 6).double()
    graph = LayerGraph(model, images)
    nodes = {n.name: n for n in graph.nodes}
    known, left = nodes["relu_1"], nodes["relu_2"]
    between, parts = graph.joined(left)
    with torch.no_grad():
        values = [graph.below(node)[0](images) for node in (known, left)]
    return graph, ConcatenatedReLU(left, nodes["second"], between, parts), known, values


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("factor", [1.0, 0.03])
@pytest.mark.parametrize("spread", [0.0, 0.2])
def test_units_between_two_thresholds_alone_are_in_doubt(seed, factor, spread):
    graph, left, known, (value, wanted) = made(seed, spread)
    on, unsure = shared_pattern(graph, left, known, factor * value.relu(), value > 0, factor)
    own = torch.zeros_like(on)
    own[:, 14:] = True  # of the last layer, which is told already
    assert not on[own].any()
    assert not unsure[own].any()
    sure = ~unsure & ~own
    assert torch.equal(on[sure], wanted[sure] > 0)
    assert not (on & unsure).any()
    assert sure.double().mean() > 0.4
    if spread == 0:
        assert not unsure.any()


def test_a_slope_of_the_other_sign_leaves_doubt():
    graph, left, known, (value, _) = made(0, 0.1)
    with torch.no_grad():
        graph.module.norm2.weight[0] *= -1
    _, unsure = shared_pattern(graph, left, known, value.relu(), value > 0, 1.0)
    assert torch.equal(unsure[:, 0], value[:, 0] <= 0)


def test_thresholds_need_the_factor_that_the_values_came_with():
    graph, left, known, (value, _) = made(0, 0.1)
    assert shared_pattern(graph, left, known, value.relu(), value > 0, None) is None
    graph, left, known, (value, wanted) = made(0, 0.0)
    on, _ = shared_pattern(graph, left, known, 0.2 * value.relu(), value > 0, None)
    assert torch.equal(on[:, :14], wanted[:, :14] > 0)
