from __future__ import annotations

import pytest
import torch
from torch import nn

from adversary.attacks.recursive.layer_graph import LayerGraph


class Block(nn.Module):
    """A densely connected layer, and a convolution of one position before a mean."""

    def __init__(self, pool):
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, 1, 1)
        self.norm1, self.conv1 = nn.BatchNorm2d(6), nn.Conv2d(6, 4, 3, 1, 1)
        self.norm2, self.conv2 = nn.BatchNorm2d(10), nn.Conv2d(10, 5, 1)
        self.relu, self.pool = nn.ReLU(), pool
        self.head = nn.Linear(5, 2)

    def forward(self, images):
        first = self.stem(images)
        second = self.conv1(self.relu(self.norm1(first)))
        both = self.relu(self.norm2(torch.cat([first, second], 1)))
        return self.head(self.pool(self.conv2(both)).sum((2, 3)))


POOLS = [nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(2), nn.AvgPool2d(3, 2, 1), nn.MaxPool2d(2)]


def made(pool, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Block(pool).double().eval()
        for norm in (model.norm1, model.norm2):
            nn.init.normal_(norm.bias)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
        images = torch.rand(2, 1, 8, 8).double()
    return model, images, LayerGraph(model, images)


def named(graph, name):
    return next(n for n in graph.nodes if n.name == name)


@pytest.mark.parametrize("pool", POOLS)
def test_means_come_before_convolutions_of_one_position_and_change_nothing(pool):
    model, images, graph = made(pool)
    torch.testing.assert_close(graph.module(images), model(images), rtol=1e-12, atol=1e-12)
    names = [n.name for n in graph.nodes]
    padded = getattr(pool, "padding", 0) != 0
    commutes = not isinstance(pool, nn.MaxPool2d) and not padded
    assert (names.index("pool") < names.index("conv2")) == commutes


def test_a_convolution_that_others_use_too_stays_where_it_is():
    class Twice(Block):
        def forward(self, images):
            x = self.conv2(torch.cat([self.stem(images)] * 2, 1)[:, :10])
            return self.head(self.pool(x).sum((2, 3)) + x.sum((2, 3)))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Twice(nn.AvgPool2d(2)).eval()
        images = torch.rand(1, 1, 8, 8)
    graph = LayerGraph(model, images)
    torch.testing.assert_close(graph.module(images), model(images))
    names = [n.name for n in graph.nodes]
    assert names.index("conv2") < names.index("pool")


def test_of_many_layers_a_relu_is_the_first_of_one_alone():
    _, _, graph = made(nn.AvgPool2d(2))
    first, second = named(graph, "relu"), named(graph, "relu_1")
    assert [n.name for n in graph.feeding(first)] == ["stem"]
    assert [n.name for n in graph.feeding(second)] == ["conv1"]
    assert [n.name for n in graph.reaching(named(graph, "norm2"))] == ["stem", "conv1"]
    between, parts = graph.joined(second)
    assert [n.name for n in between] == ["norm2", "cat"]
    assert [n.name for n in parts] == ["stem", "conv1"]
    assert graph.joined(first) == ([], [])


@pytest.mark.parametrize("name", ["relu_1", "pool"])
def test_the_first_of_values_side_by_side_stand_alone(name):
    _, images, graph = made(nn.AvgPool2d(2))
    node = named(graph, name)
    assert graph.parts(node) == [6, 4]
    whole, rectified = graph.below(node)
    first, same = graph.below(node, 6)
    with torch.no_grad():
        torch.testing.assert_close(first(images), whole(images)[:, :6])
    assert same == rectified == (name == "relu_1")
    assert "conv1" not in {n.name for n in first.graph.nodes}
    assert graph.parts(named(graph, "stem")) == [6]
