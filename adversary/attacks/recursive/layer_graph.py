"""A network as the graph of its layers, cut where an attack knows a layer's outputs."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional

from adversary.common.errors import UserError

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


class GraphError(UserError, ValueError):
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
            self.module = _pooled_first(fx.symbolic_trace(model))
            ShapeProp(self.module).propagate(images)
        except Exception as error:  # tracing runs the model's own code
            raise GraphError(f"its layers cannot be traced ({_line(error)})") from error
        self.nodes = list(self.module.graph.nodes)
        self._modules = dict(self.module.named_modules())
        self._reaching: dict[fx.Node, list[fx.Node]] = {}
        self._feeding: dict[fx.Node, list[fx.Node]] = {}
        self._follow()

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

    def positive(self, node: fx.Node) -> bool:
        """Whether no value of a node is negative: a ReLU's outputs, also pooled or rearranged."""
        if self.rectifies(node):
            return True
        pools = isinstance(self.layer(node), (*POOLS, *MAX_POOLS)) or node.target in POOLING
        return (pools or self.keeps(node)) and self.positive(node.all_input_nodes[0])

    def affine(self, node: fx.Node) -> bool:
        """Whether a node's value is an affine function of its inputs, for each image alone."""
        layer = self.layer(node)
        if isinstance(layer, nn.BatchNorm2d):
            return not layer.training and layer.running_mean is not None
        if layer is None:
            return node.target in SHAPES | SUMS | POOLING
        return isinstance(layer, (*LAYERS, *POOLS, *KEEPING))

    def reaching(self, node: fx.Node) -> list[fx.Node]:
        """Return the layers connected to a node without a ReLU between."""
        return self._reaching[node]

    def feeding(self, node: fx.Node) -> list[fx.Node]:
        """Return the layers with weights of whose outputs a ReLU is the first to be given.

        Unswitched, and first from the images on.
        """
        return self._feeding.get(node, [])

    def joined(self, node: fx.Node) -> tuple[list[fx.Node], list[fx.Node]]:
        """Return what joins the inputs of a ReLU channel by channel, and what it joins.

        The nodes between, from the ReLU's input on to the concatenation; both empty if that is not
        what it is given.
        """
        between = self._to_joint(node.all_input_nodes[0], (nn.BatchNorm2d,))
        return between, list(between[-1].all_input_nodes) if between else []

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

    def parts(self, node: fx.Node) -> list[int]:
        """Return the channels of each of the values that a node's are made of side by side."""
        joint = self._joint(node)
        sources = [node] if joint is None else joint.all_input_nodes
        return [self.shape(source)[1] for source in sources]

    def below(
        self, node: fx.Node, channels: int | None = None
    ) -> tuple[Callable[[Tensor], Tensor], bool]:
        """Return the part of the network from images to a node, and whether it ends in a ReLU.

        Such a last ReLU is left out, as it tells nothing of the sign of what it is given. Where
        only a pooling of the largest follows it, that is the same on either side of it.

        Parameters
        ----------
        node : fx.Node
            At whose value it ends.
        channels : int, optional
            Of the value's, from the first on, where not all: as many as some of its
            :meth:`parts` have. What the others are made of is left out.
        """
        last = node
        while isinstance(self.layer(last), MAX_POOLS) or self.keeps(last):
            last = last.all_input_nodes[0]
        joint = None if channels is None else self._joint(node)
        kept: list[fx.Node] = []
        lacking = sum(self.parts(node)) - (channels or 0)
        if joint is not None:
            ends = itertools.accumulate(self.parts(node))
            every = zip(joint.all_input_nodes, ends, strict=True)
            kept = [part for part, end in every if end <= (channels or 0)]
        graph = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        for each in self._up_to(node, instead={} if joint is None else {joint: kept}):
            if each is last and self.rectifies(each):
                copies[each] = copies[each.all_input_nodes[0]]
            elif each is joint:
                less = graph.call_function(torch.cat, ([copies[n] for n in kept], 1))
                copies[each] = graph.call_function(functional.pad, (less, (0, 0, 0, 0, 0, lacking)))
            else:
                copies[each] = graph.node_copy(each, lambda n: copies[n])
        found = copies[node]
        if joint is not None:
            found = graph.call_method("narrow", (found, 1, 0, channels))
        graph.output(found)
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

    def _follow(self) -> None:
        """Find what :meth:`reaching` and :meth:`feeding` return."""
        fed: set[fx.Node] = set()
        for node in self.nodes:
            above = [layer for n in node.all_input_nodes for layer in self._reaching[n]]
            above = list(dict.fromkeys(above))
            if self.rectifies(node):
                self._feeding[node] = [layer for layer in above if layer not in fed]
                fed.update(above)
            if isinstance(self.layer(node), LAYERS):
                self._reaching[node] = [node]
            else:
                self._reaching[node] = above if self.affine(node) else []

    def _joint(self, node: fx.Node) -> fx.Node | None:
        """Return the concatenation whose channels a node's values are, each for itself."""
        through = (*POOLS, *MAX_POOLS, nn.BatchNorm2d, nn.ReLU)
        path = self._to_joint(node, through, RECTIFIERS)
        return path[-1] if path else None

    def _to_joint(
        self, node: fx.Node, through: tuple[type, ...], functions: frozenset[Any] = frozenset()
    ) -> list[fx.Node]:
        """Return the nodes from one down to the concatenation whose channels it has, each alone.

        Empty where there is none, or others than those said, and rearrangements, lie between.
        """
        path = [node]
        while node.target is not torch.cat:
            keeps = self.keeps(node) or isinstance(self.layer(node), through)
            if not keeps and not (self.layer(node) is None and node.target in functions):
                return []
            source = node.all_input_nodes[0]
            if self.shape(node)[:2] != self.shape(source)[:2]:
                return []
            path.append(node := source)
        return path

    def _up_to(
        self,
        *wanted: fx.Node,
        known: fx.Node | None = None,
        instead: Mapping[fx.Node, Sequence[fx.Node]] = MappingProxyType({}),
    ) -> list[fx.Node]:
        """Return all that values come from, in order, but for one that is known.

        Of the inputs of some nodes others may be taken instead.
        """
        needed, queue = set(wanted) - {known}, [n for n in wanted if n is not known]
        while queue:
            last = queue.pop()
            for source in instead.get(last, last.all_input_nodes):
                if source is not known and source not in needed:
                    needed.add(source)
                    queue.append(source)
        return [each for each in self.nodes if each in needed]


def _pooled_first(module: fx.GraphModule) -> fx.GraphModule:
    """Return the same network with means over positions before convolutions of one position.

    Of which they take the outputs alone: the two commute, and the gradient of such a convolution
    tells the means of its inputs, never their single values.
    """
    modules = dict(module.named_modules())
    for pool in list(module.graph.nodes):
        averages = modules.get(str(pool.target)) if pool.op == "call_module" else None
        if not isinstance(averages, POOLS) or getattr(averages, "padding", 0) not in (0, (0, 0)):
            continue
        source = pool.all_input_nodes[0]
        layer = modules.get(str(source.target)) if source.op == "call_module" else None
        if not isinstance(layer, nn.Conv2d) or len(source.users) != 1:
            continue
        if {*layer.kernel_size, *layer.stride} != {1} or any(map(bool, layer.padding)):
            continue
        pool.replace_all_uses_with(source)
        pool.replace_input_with(source, source.all_input_nodes[0])
        pool.append(source)
        source.replace_input_with(source.all_input_nodes[0], pool)
    module.recompile()
    return module


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
