"""A network as the graph of its layers, cut where an attack knows a layer's outputs."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional

LAYERS = (nn.Conv2d, nn.Linear)
"""Those with weights whose gradient tells of their inputs."""

SHAPES: frozenset[Any] = frozenset({torch.flatten, "flatten", "view", "reshape"})
"""Functions and methods that only rearrange values."""

KEEPING = (nn.Identity, nn.Flatten, nn.Dropout)
"""Modules that, dropout being off, leave values as they are."""

RECTIFIERS: frozenset[Any] = frozenset({torch.relu, functional.relu, "relu"})

POOLS = (nn.AvgPool2d, nn.AdaptiveAvgPool2d)

POOLING: frozenset[Any] = frozenset({functional.avg_pool2d, functional.adaptive_avg_pool2d})

MAX_POOLS = (nn.MaxPool2d,)

SUMS: frozenset[Any] = frozenset({operator.add, torch.add, torch.cat})
"""Functions of several values, affine in them all."""


class GraphError(ValueError):
    """The network's layers cannot be told apart; the message says why."""


class LayerGraph:
    """The layers of a network in the order in which images pass them.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode; traced symbolically, so that its course may not depend on values.
    images : Tensor
        (B, C, H, W), of the shape in question.

    Raises
    ------
    GraphError
        If the model cannot be traced.
    """

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        try:
            self.module = fx.symbolic_trace(model)
            ShapeProp(self.module).propagate(images)
        except Exception as error:  # tracing runs the model's own code
            raise GraphError(f"its layers cannot be traced ({_line(error)})") from error
        self.nodes = list(self.module.graph.nodes)
        self._modules = dict(self.module.named_modules())

    @property
    def result(self) -> fx.Node:
        """The node of the logits."""
        found = self.nodes[-1].args[0]
        assert isinstance(found, fx.Node)
        return found

    def layer(self, node: fx.Node) -> nn.Module | None:
        """Return the module that a node calls; None for functions and methods."""
        return self._modules[str(node.target)] if node.op == "call_module" else None

    def shape(self, node: fx.Node) -> torch.Size:
        """Return the shape of a node's value."""
        found: torch.Size = node.meta["tensor_meta"].shape
        return found

    def keeps(self, node: fx.Node) -> bool:
        """Whether a node's values are those of its input, rearranged at most."""
        layer = self.layer(node)
        if isinstance(layer, POOLS) or node.target in POOLING:  # of single values
            return self.shape(node).numel() == self.shape(node.all_input_nodes[0]).numel()
        return isinstance(layer, KEEPING) or (layer is None and node.target in SHAPES)

    def rectifies(self, node: fx.Node) -> bool:
        """Whether a node is a ReLU."""
        layer = self.layer(node)
        return type(layer) is nn.ReLU or (layer is None and node.target in RECTIFIERS)

    def affine(self, node: fx.Node) -> bool:
        """Whether a node's value is an affine function of its inputs, for each image alone."""
        layer = self.layer(node)
        if isinstance(layer, nn.BatchNorm2d):
            return not layer.training and layer.running_mean is not None
        if layer is None:
            return node.target in SHAPES | SUMS | POOLING
        return isinstance(layer, (*LAYERS, *POOLS, *KEEPING))

    def call(self, node: fx.Node, *inputs: Tensor) -> Tensor:
        """Return the value of a node whose input nodes have these values."""
        given = dict(zip(node.all_input_nodes, inputs, strict=True))
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: given[n])
        layer = self.layer(node)
        if layer is not None:
            found = layer(*args, **kwargs)
        elif node.op == "call_method":
            found = getattr(args[0], str(node.target))(*args[1:], **kwargs)
        else:
            assert callable(node.target)
            found = node.target(*args, **kwargs)
        assert isinstance(found, Tensor)
        return found

    def pull(self, node: fx.Node, error: Tensor) -> list[Tensor]:
        """Return the gradients by the inputs of an affine node, from that by its value."""
        zeros = [error.new_zeros(self.shape(n)) for n in node.all_input_nodes]
        found: tuple[Tensor, ...] = torch.func.vjp(lambda *at: self.call(node, *at), *zeros)[1](
            error
        )
        return list(found)

    def below(self, node: fx.Node) -> tuple[Callable[[Tensor], Tensor], bool]:
        """Return the part of the network from images to a node, and whether it ends in a ReLU.

        Such a last ReLU is left out, as it tells nothing of the sign of what it is given. Where
        only a pooling of the largest follows it, that is the same on either side of it.
        """
        last = node
        while isinstance(self.layer(last), MAX_POOLS) or self.keeps(last):
            last = last.all_input_nodes[0]
        graph = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        for each in self._up_to(node):
            if each is last and self.rectifies(each):
                copies[each] = copies[each.all_input_nodes[0]]
            else:
                copies[each] = graph.node_copy(each, lambda n: copies[n])
        graph.output(copies[node])
        return fx.GraphModule(self.module, graph), self.rectifies(last)

    def above(
        self, node: fx.Node, wanted: Sequence[fx.Node]
    ) -> Callable[[Tensor], tuple[Tensor, ...]]:
        """Return the part from the value of a node that cuts to the values of others."""
        graph = fx.Graph()
        copies = {node: graph.placeholder("value")}
        for each in self._up_to(*wanted, known=node):
            copies[each] = graph.node_copy(each, lambda n: copies[n])
        graph.output(tuple(copies[each] for each in wanted))
        return fx.GraphModule(self.module, graph)

    def cuts(self, node: fx.Node) -> bool:
        """Whether images come to the logits through a node's value alone."""
        return all(n.op != "placeholder" for n in self._up_to(self.result, known=node))

    def _up_to(self, *wanted: fx.Node, known: fx.Node | None = None) -> list[fx.Node]:
        """Return all that values come from, in order, but for one that is known."""
        needed, queue = set(wanted) - {known}, [n for n in wanted if n is not known]
        while queue:
            for source in queue.pop().all_input_nodes:
                if source is not known and source not in needed:
                    needed.add(source)
                    queue.append(source)
        return [each for each in self.nodes if each in needed]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
